"""Monthly totals of international airline passengers, 1949-1960, in thousands (Box and Jenkins, Time Series Analysis,
1970, series G): 144 values, all of them bundled."""

from ddl.data.recipe import FileRecipe

CHECKSUM = "sha256:eda0181c2450975f5ad68556dcf14367541b22553f0c628b9747334cfdc6c96c"
AIRLINE = FileRecipe(name="airline", file="airline.csv", checksum=CHECKSUM, sample=CHECKSUM)
