"""Faults of the exercises' checks."""

# ruff: noqa: E501  (source text is quoted as it stands)
# fmt: off

FAULTS = {
    "exercises/checker.py": {
        "the first probe alone": ("    for number, probe in enumerate(probes):\n        outcomes", "    for number, probe in enumerate(probes[:1]):\n        outcomes"),
        "the last mistake is told": ("            if wrong is None:\n                wrong, first", "            if True:\n                wrong, first"),
        "a hint that fits nothing": ("if fits and any(s and w for s, w in zip(same, wrong, strict=True)) and sum(same) > best:", "if sum(same) > best:"),
        "a hint for what is right": ("any(s and w for s, w in zip(same, wrong, strict=True))", "any(same)"),
        "the first hint that fits": ("sum(same) > best:\n            best, found = sum(same), hint", "not found:\n            best, found = sum(same), hint"),
        "the learner's function gets our arrays": ("arguments = tuple(_copied(argument) for argument in probe)", "arguments = probe"),
        "changed arguments pass": ("        if not np.array_equal(before, after):\n", "        if before.shape != after.shape:\n"),
        "dtypes are not compared": ("    if got.dtype != expected.dtype:\n", "    if got.dtype.kind != expected.dtype.kind:\n"),
        "shapes that broadcast pass": ("    if got.shape != expected.shape:\n", "    if got.size != expected.size:\n"),
        "one right value is enough": ("if not _close(got, expected).all():", "if not _close(got, expected).any():"),
        "close to itself": ("np.isclose(got, expected, rtol=0, atol=RTOL * size, equal_nan=True)", "np.isclose(got, got, rtol=0, atol=RTOL * size, equal_nan=True)"),
        "absolute closeness": ("atol=RTOL * size,", "atol=RTOL,"),
        "NaN makes all close": ("size = np.abs(expected[np.isfinite(expected)]).max(initial=0)", "size = np.abs(expected).max(initial=0)"),
        "a right result is not tried": ("        return _try(exercise, learner, say)\n", "        return True\n"),
        "trials that fail are right": ("                return False\n    left", "                break\n    left"),
        "large trials are run": ("[trial for trial in every if trial.values <= LARGEST]", "list(every)"),
        "what is left out is not told": ("left = left if len(every) > len(trials) else \"\"", "left = \"\""),
        "right values are marked": ("wrong = ~_close(got, expected)\n    count", "wrong = _close(got, expected)\n    count"),
        "expected and got exchanged": ("left = [\" got\", *_table(_rows(got, wrong))]\n    right = [\" expected\", *_table(_rows(expected))]", "left = [\" got\", *_table(_rows(expected, wrong))]\n    right = [\" expected\", *_table(_rows(got))]"),
        "not written counts as wrong": ("    except (NotWritten, TooSlow):\n        raise\n", ""),
        "results beyond the last are passed over": ("or len(given.results) != len(names):", "or len(given.results) < len(names):"),
        "keys too many pass": ("for key in {**expected, **got} if", "for key in expected if"),
        "changed arguments are fine": ("    return Outcome(results, list(_arrays(arguments)))\n", "    return Outcome(results, list(_arrays(probe)))\n"),
        "the example in float64": ("probes = [_as_float32(exercise.example()),", "probes = [exercise.example(),"),
        "a scale of the given": ("size = np.abs(expected[np.isfinite(expected)]).max(initial=0)", "size = np.abs(got[np.isfinite(got)]).max(initial=0)"),
        "shapes are not compared in hints": ("if (x.shape, x.dtype.kind) != (y.shape, y.dtype.kind) or not _close(x, y).all():", "if x.size != y.size or not _close(x.reshape(-1), y.reshape(-1)).all():"),
        "many grids as one": ("return array.size <= CELLS and all(n == 1 for n in array.shape[:-2])", "return array.size <= CELLS"),
        "columns as wide as the first row": ("    width = max((len(cell.rstrip(\"*\")) for row in rows for cell in row), default=0)\n", "    width = max((len(cell.rstrip(\"*\")) for row in rows[:1] for cell in row), default=0)\n"),
        "too slow: the next probe is tried": ("    except (NotWritten, TooSlow):\n", "    except NotWritten:\n"),
        "the results are called right before they are compared": ("    for name, got, expected in zip(names, given.results, right.results, strict=True):\n        _compare_result(name, got, expected)", "", "                + \"\\nOthers may still need it. Work on a copy.\"\n            )", "                + \"\\nOthers may still need it. Work on a copy.\"\n            )\n    for name, got, expected in zip(names, given.results, right.results, strict=True):\n        _compare_result(name, got, expected)"),
        "a changed argument: what it was and what it is exchanged": ("\"\\n\".join(_grids(after, before))", "\"\\n\".join(_grids(before, after))"),
    },
    "exercises/exercise.py": {
        "tinynet's own is not put back": ("                stack.callback(setattr, owner, name, vars(owner)[name])\n", ""),
        "the last place alone": ("            for owner, name in self.places:\n", "            for owner, name in self.places[-1:]:\n"),
        "not adapted": ("setattr(owner, name, self.adapt(function))", "setattr(owner, name, function)"),
        "the stub has the solution's first line": ("lines[: docstring.end_lineno]", "lines[: docstring.end_lineno + 1]"),
        "the first operation alone": ("for name in operations for case", "for name in operations[:1] for case"),
        "a static method becomes a function": ("stack.callback(setattr, owner, name, vars(owner)[name])", "stack.callback(setattr, owner, name, getattr(owner, name))"),
        "a stub without its docstring": ("lines[: docstring.end_lineno]", "lines[: docstring.lineno - 1]"),
        "no case is too large": ("return [Trial(partial(gradcheck, fn, xs), sum(x.size for x in xs)) for fn, xs in cases]", "return [Trial(partial(gradcheck, fn, xs)) for fn, xs in cases]"),
        "an exercise that can be changed": ("frozen=True, kw_only", "kw_only"),
    },
    "exercises/__main__.py": {
        "--solution without NAME is let through": ("if not name and (arguments.hint or arguments.solution):", "if not name and arguments.hint:"),
        "--list with NAME is let through": ("if name and (arguments.list or arguments.all):", "if name and arguments.all:"),
        "NAME is .py alone": ("if not name and (arguments.hint", "if arguments.name is None and (arguments.hint"),
        "--hint and --solution together": ("what.add_argument(\"--solution\"", "parser.add_argument(\"--solution\""),
        "a file is written over": ("open(path, \"x\", encoding=\"utf-8\")", "open(path, \"w\", encoding=\"utf-8\")", "    if path.exists():\n        print(f\"{path.name}: {exercise", "    if path.exists() and path.stat().st_size > 1000:\n        print(f\"{path.name}: {exercise"),
        "wrong is status 0": ("return 0 if _is_right(exercise, path, print) else 1", "_is_right(exercise, path, print)\n        return 0"),
        "all right though one is wrong": ("return 0 if right == found > 0 else 1", "return 0 if right > 0 else 1"),
        "nothing begun is right": ("return 0 if right == found > 0 else 1", "return 0 if right == found else 1"),
        "the hint is the solution's text": ("print(textwrap.fill(EXERCISES[name].hint, 96))", "print(EXERCISES[name].text(solved=True))"),
        "a file that cannot be written is no failure": ("        print(f\"{error.filename}: {error.strerror}\", file=sys.stderr)\n        return 1\n", "        print(f\"{error.filename}: {error.strerror}\", file=sys.stderr)\n        return 0\n"),
    },
    "exercises/learner.py": {
        "the signal's handler stays": ("        signal.signal(signal.SIGALRM, before)\n", ""),
        "the timer goes on": ("        signal.setitimer(signal.ITIMER_REAL, 0)\n", ""),
        "what is printed is lost": ("            self.printed += out.getvalue().splitlines()\n", "            pass\n"),
        "an interrupt is a mistake": ("        except (KeyboardInterrupt, Wrong):\n            raise\n", "        except Wrong:\n            raise\n"),
        "the handler before is lost": ("        signal.signal(signal.SIGALRM, before)", "        signal.signal(signal.SIGALRM, signal.SIG_DFL)"),
        "an exit of the learner ends the program": ("        except BaseException as error:\n", "        except (Exception, _TimeUp) as error:\n"),
        "what was printed by a failure is lost": ("        finally:\n            self.printed += out.getvalue().splitlines()\n", "        self.printed += out.getvalue().splitlines()\n"),
        "its own arguments alone": ("inspect.signature(function).bind(*wanted)", "inspect.signature(function).bind_partial(*wanted)"),
        "eight of nine lines": ("*([more] if len(lines) > SHOWN else [])", "*([more] if len(lines) >= SHOWN else [])"),
        "the first line that ran": ("for frame in reversed(traceback.extract_tb(error.__traceback__)):", "for frame in traceback.extract_tb(error.__traceback__):"),
        "the time is up once": ("signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS / 20)", "signal.setitimer(signal.ITIMER_REAL, SECONDS)"),
        "arguments must have the names of the exercise": ("        try:\n            inspect.signature(function).bind(*wanted)\n        except TypeError:", "        if [*inspect.signature(function).parameters] != wanted:"),
    },
    "exercises/unbroadcast.py": {
        "no probe of an inner axis": ("        ((2, 3, 4), (2, 1, 4)),\n        ((3, 4), (3, 4)),\n", "        ((3, 4), (3, 4)),\n"),
    },
    "exercises/sgd_step.py": {
        "the learner's step is not used": ("    places=((kernels, \"sgd_step\"),),\n", ""),
    },
    "exercises/walk.py": {
        "hints exchanged": ("        recursive_whole: \"you visit", "        recursive: \"you visit", "        recursive: \"a function that calls", "        recursive_whole: \"a function that calls"),
        "a short chain": ("for number in range(1, 10_000):", "for number in range(1, 500):"),
    },
    "exercises/dropout_backward.py": {
        "all dropped is not tried": ("for p in (0.2, 0.75, 1):", "for p in (0.2, 0.75):"),
    },
    "exercises/conv2d_backward.py": {
    },
    "exercises/central_difference.py": {
        "the solution gives float64 for float32": ("    \"\"\"\n    gradient = np.zeros_like(x)\n", "    \"\"\"\n    gradient = np.zeros(x.shape)\n"),
    },
    "exercises/col2im.py": {
        "the solution gives float64 for float32": ("    )  # (N, C, OH, OW, kh, kw)\n    padded = np.zeros((N, C, H + 2 * ph, W + 2 * pw), col.dtype)", "    )  # (N, C, OH, OW, kh, kw)\n    padded = np.zeros((N, C, H + 2 * ph, W + 2 * pw))"),
    },
    "exercises/im2col.py": {
        "the solution gives float64 for float32": ("col = np.zeros((C, kh, kw, OH, OW, N), x.dtype)", "col = np.zeros((C, kh, kw, OH, OW, N))"),
    },
    "exercises/accumulate.py": {
        "a single part comes back itself, not as a copy": ("    total = parts[0].copy()\n    for part in parts[1:]:", "    if len(parts) == 1:\n        return parts[0]\n    total = parts[0].copy()\n    for part in parts[1:]:"),
    },
}
