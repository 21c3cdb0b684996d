"""Runs models as a driver asks for them on standard input, a line each, and answers with lines of JSON.

    load MODEL      makes the model and runs it: the beginning of what each way of running it gives
    count MODEL     how many operations each way asks for, computing ones and views
    time MODEL WAY  runs it once: microseconds
    free MODEL
"""

import json
import sys
import time


# So many numbers of what they give are compared.
BEGINNING = 64


def serve(load, wait, beginning, count=None):
    """`load(model)` returns functions by name, which return what is to be computed, the output first."""
    models = {}

    def first(run):
        # The second call finds what the first one compiled.
        wait(run())
        result = run()
        wait(result)
        return beginning(result)

    def timed(run):
        start = time.perf_counter()
        wait(run())
        return (time.perf_counter() - start) * 1e6

    for line in sys.stdin:
        command, model, *way = line.split()
        if command == "load":
            models[model] = load(model)
            answer = {name: first(run) for name, run in models[model].items()}
        elif command == "count":
            answer = {name: count(run()) for name, run in models[model].items()}
        elif command == "time":
            answer = timed(models[model][way[0]])
        else:
            del models[model]
            answer = None
        print(json.dumps(answer), flush=True)
