"""The promise, put to the test: numbered events flow while everything around them breaks, and a judge counts.

    source (numbers) → bridge → ear on the wire → Mosquitto → witness

The source knows what it handed to a living socket, the ear on the wire what the broker acknowledged, the witness what a
subscriber got; a scraper looks at the ledger all the while. Nothing here shares code with the bridge.

`told`, `heard` and `lives` keep what happened, `judge` says what is wrong with it; these know no socket and no clock.
`source`, `wire` and `witness` are the ears and mouths; `world` holds everything together, `troubles` breaks it, `run`
decides when. `python -m tests.faults --help`
"""
