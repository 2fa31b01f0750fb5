"""Everything that looks inside an image file: the header probe, and the check in a disposable child process.

In the process that fetches: `probe` reads the size from the first bytes of a file; `Decoder` and `DecoderPool` hand
whole files to children. In the child (`child` → `check`): `strip`, `color` and `measure`. The modules of the child
import neither pyarrow nor pydantic, so that a child starts in a fraction of a second and stays small.
"""
