"""python launch.py --sweep augmentation"""

import sys

from ddl.launch import main

if __name__ == "__main__":
    sys.exit(main())
