"""Caption: an open vision-language model writes captions of several lengths; checks decide."""
