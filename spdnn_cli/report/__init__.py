"""Tables and pictures from results and published figures."""
