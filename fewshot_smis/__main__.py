"""`python -m fewshot_smis` is the command line."""

from fewshot_smis.cli import main

if __name__ == "__main__":
    main(prog_name="fewshot-smis")
