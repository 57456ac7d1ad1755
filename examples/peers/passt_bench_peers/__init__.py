"""The authors' own PaSST, AST and CNN14 as models of passt-bench."""
