"""Operators that a user might write: one over pixels, one over text, and some that are wrong."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa
from PIL import Image, ImageStat, UnidentifiedImageError

from curation.op import BatchOperator, ImageOperator
from curation.row import KEPT, Reason, Verdict, with_outcomes


class Brightness(BatchOperator):
    """Mean luma, 0 to 255; rows whose URL ends in 3.jpg fail, to show that single rows can."""

    reads = ("image", "url")
    writes: ClassVar = (pa.field("brightness", pa.float32()),)

    def process(self, batch: pa.Table) -> pa.Table:
        values: list[float | None] = []
        verdicts = []
        for data, url in zip(batch["image"].to_pylist(), batch["url"].to_pylist(), strict=True):
            try:
                if url.endswith("3.jpg"):
                    raise UnidentifiedImageError("ends in 3")
                pixels = Image.open(io.BytesIO(data)).convert("L").resize((1, 1), Image.Resampling.BOX)
                values.append(float(pixels.getpixel((0, 0))))  # type: ignore[arg-type]
                verdicts.append(KEPT)
            except UnidentifiedImageError as error:
                values.append(None)
                verdicts.append(Verdict(Reason.OPERATOR_FAULT, str(error)))
        return with_outcomes(batch.append_column(self.writes[0], pa.array(values, pa.float32())), verdicts)


class Twice(BatchOperator):
    """Reads what the operator before it wrote."""

    reads = ("brightness",)
    writes: ClassVar = (pa.field("twice", pa.float32()),)

    def process(self, batch: pa.Table) -> pa.Table:
        values = [2 * b for b in batch["brightness"].to_pylist()]
        return batch.append_column(self.writes[0], pa.array(values, pa.float32()))


class Buggy(BatchOperator):
    writes: ClassVar = (pa.field("nothing", pa.float32()),)

    def process(self, batch: pa.Table) -> pa.Table:
        raise ZeroDivisionError("a bug")


class Rejecting(BatchOperator):
    """Breaks the rule that scorers never reject."""

    def process(self, batch: pa.Table) -> pa.Table:
        return with_outcomes(batch, [Verdict(Reason.WHERE)] * batch.num_rows)


class Clashing(BatchOperator):
    writes: ClassVar = (pa.field("width", pa.int32()),)

    def process(self, batch: pa.Table) -> pa.Table:
        return batch


class Redness(ImageOperator):
    """Mean of red less mean of green, over the stage's decoded pictures; also says how large they came."""

    side = 64
    writes: ClassVar = (pa.field("redness", pa.float32()), pa.field("came", pa.string()))

    def process(self, batch: pa.Table, images: Sequence[Image.Image]) -> pa.Table:
        means = [ImageStat.Stat(image).mean for image in images]
        batch = batch.append_column(self.writes[0], pa.array([r - g for r, g, _ in means], pa.float32()))
        return batch.append_column(self.writes[1], pa.array([f"{i.mode} {i.width}x{i.height}" for i in images]))
