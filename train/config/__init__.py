"""What a run is: recipe files and the command line, as frozen values that are checked where they are made."""
