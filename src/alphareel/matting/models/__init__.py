"""One engine per file. The file name is the public name of the engine; ``matting.engine`` has the contract."""
