"""Reads a page of metrics from standard input with the strict parsers of Prometheus' own Python client, in the format that is named.

Prints how many families and samples there are. Fails as a scraper would.
"""

import sys

if sys.argv[1] == "openmetrics":
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
else:
    from prometheus_client.parser import text_string_to_metric_families

families = list(text_string_to_metric_families(sys.stdin.read()))
print(len(families), sum(len(family.samples) for family in families))
