"""One GET a row: the stage that brings images in from a hostile web. `operator.Fetch` is its door."""
