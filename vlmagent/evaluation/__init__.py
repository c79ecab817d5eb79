"""How good an agent is: systems, episodes, statistics, results and the tables of the paper."""
