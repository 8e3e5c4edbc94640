# The gate of the documentation's site. scripts/gates.sh reads this file.

gate_docs() { scripts/docs.sh; }
