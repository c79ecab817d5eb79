"""Several processes that train one run: who does what, what they share, what one hears when another dies."""
