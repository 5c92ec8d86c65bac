"""`python -m grid prefer`: a page on which a person chooses between two trials' explanations of an image."""

import getpass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from grid.interruption import terminated_as_interrupted
from grid.refused import Refused

if TYPE_CHECKING:
    from grid.stores.world import World


def prefer(
    experiment: str,
    left: Annotated[
        str | None,
        typer.Option(
            help="a method, or the beginning of a trial's or configuration's id; sides are drawn anew"
        ),
    ] = None,
    right: Annotated[str | None, typer.Option(help="the other one")] = None,
    rater: Annotated[str | None, typer.Option(help="who votes; default: the user's name")] = None,
    dataset: Annotated[str | None, typer.Option(help="which one, where the experiment has several")] = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="of these images")] = "test",
    images: Annotated[int, typer.Option(min=1, help="how many")] = 100,
    host: Annotated[str, typer.Option(help="address to listen on; others than loopback can vote too")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8400,
    results: Annotated[str | None, typer.Option(help="results store")] = None,
    storage: Annotated[str | None, typer.Option(help="artifact store")] = None,
) -> None:
    """Serves a page with two explanations of an image, blind: left, right or discord, by mouse or key.

    Votes go to the table `preference`; the same command goes on where the rater stopped. Percentages:
    `python -m analysis preferences EXPERIMENT`.
    """
    from grid.commands.prefer_server import LOOPBACK, serve
    from grid.commands.preference import Study, pairs_of
    from grid.stores.world import open_world
    from grid.trials.finished import open_finished

    world = open_world(results, storage, create=False)
    ids = _two_trials(world, experiment, left, right, dataset)
    a, b = (open_finished(world, trial_id) for trial_id in ids)
    rater = rater or getpass.getuser()
    pairs = pairs_of(a, b, split, images, rater)
    for trial in (a, b):
        if not trial.method.explain(trial.fitted, trial.data, [pairs[0].image_id]):
            raise Refused(f"{trial.method_name} has no explanations")
    try:
        server = serve(Study(experiment, rater, pairs, world.results), host, port)
    except OSError as error:
        raise Refused(f"cannot listen on {host}:{port}: {error}; give another --port") from error
    if host not in LOOPBACK:
        typer.echo(f"warning: whoever reaches {host} can see the images and vote as {rater}", err=True)
    typer.echo(f"{len(pairs)} images for {rater}: http://{host}:{server.server_port}/ (Ctrl-C ends)")
    try:
        with terminated_as_interrupted():
            server.serve_forever()
    except KeyboardInterrupt:
        typer.echo(f"votes are stored: python -m analysis preferences {experiment}")
    finally:
        server.server_close()
        world.results.close()


def _two_trials(
    world: "World", experiment: str, left: str | None, right: str | None, dataset: str | None
) -> tuple[str, str]:
    """Ids of the trials that two names stand for: of one data set, and of the first seed that both have."""
    done = world.results.done_trials(experiment)
    if (left is None) != (right is None):
        raise Refused("give --left and --right together")
    if left is None or right is None:
        methods = sorted({trial["method"] for trial in done})
        if len(methods) != 2:
            raise Refused(
                f"give --left and --right; {experiment} has trials of {', '.join(methods) or 'none'}"
            )
        left, right = methods
    pairs = [
        (one, two)
        for one in _named(done, left, dataset)
        for two in _named(done, right, dataset)
        if one["data_fingerprint"] == two["data_fingerprint"] and one["id"] != two["id"]
    ]
    if not pairs:
        raise Refused(f"no data set of {experiment} has finished trials of both {left!r} and {right!r}")
    for column, option in (("dataset", "--dataset"), ("config_id", "--left or --right")):
        for side in (0, 1):
            found = sorted({str(pair[side][column])[:12] for pair in pairs})
            if len(found) > 1:
                raise Refused(f"{(left, right)[side]!r} is several: give {option} one of {', '.join(found)}")
    one, two = min(
        pairs, key=lambda pair: (pair[0]["seed"] != pair[1]["seed"], pair[0]["seed"], pair[1]["seed"])
    )
    return one["id"], two["id"]


def _named(trials: list[dict[str, Any]], name: str, dataset: str | None) -> list[dict[str, Any]]:
    """Those of a method of this name, else those whose id or whose configuration's id begins so."""
    own = [trial for trial in trials if dataset in (None, trial["dataset"])]
    methods = [trial for trial in own if trial["method"] == name]
    return methods or [
        trial for trial in own if trial["id"].startswith(name) or trial["config_id"].startswith(name)
    ]
