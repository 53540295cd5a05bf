"""analytics-sdk beside other tracking SDKs, in one run: `python3 noxfile.py -s rivals`."""
