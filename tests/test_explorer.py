"""The explorer without its widgets: the form follows the schema, the draft forgets nothing, the preview is the
analytic model, jobs stop."""

import threading
import time

import numpy as np
import pytest
import yaml
from pydantic import Field as PydanticField
from systems import scenario

from simulator.catalog import examples_folder, find_gpu, load_analytic_error
from simulator.errors import ServelabError
from simulator.explorer.background import Job
from simulator.explorer.cards import GOOD, WARN, preview_card
from simulator.explorer.draft import Draft, of_text, presets
from simulator.explorer.entry import entered, knobs, shown, steps
from simulator.explorer.form import PANELS, fields, panel_of
from simulator.explorer.limits import FOR_OTHERS, Limits, TooLarge, expected_requests
from simulator.explorer.preview import preview
from simulator.explorer.views import tabs
from simulator.explorer.work import Work
from simulator.planner.designs import Claim
from simulator.planner.traffic import requests_of
from simulator.results.result import Result
from simulator.scenario import Scenario
from simulator.simulation import simulate

DEFAULT = Scenario.load(examples_folder() / "default.yaml")


def by_name(draft):
    return {f.name: f for f in fields(draft.mapping)}


# ---- form -----------------------------------------------------------------------------------------------------


def test_every_field_of_the_scenario_is_in_the_form_once():
    found = fields(DEFAULT.to_mapping())
    names = [f.name for f in found]
    assert len(names) == len(set(names))
    top = {n.partition(".")[0] for n in names}
    assert top == set(Scenario.model_fields) - {"schema_version"}
    deployment = {n.split(".")[2] for n in names if n.startswith("deployments.0.")}
    from simulator.cluster.deployment import Deployment

    assert deployment == set(Deployment.model_fields)
    assert {f.panel for f in found} == set(PANELS)


def test_a_new_field_appears_by_itself():
    class More(Scenario):
        lunch_s: float = PydanticField(default=3.0, gt=0, le=60, description="when nobody asks anything [s]")

    new = next(f for f in fields(DEFAULT.to_mapping(), schema=More.model_json_schema()) if f.path == ("lunch_s",))
    assert (new.label, new.limits, new.value, new.panel) == ("lunch_s [s]", "above 0, at most 60", 3.0, "Topology")
    assert new.help.startswith("when nobody")


def test_limits_units_and_help_come_from_the_schema():
    f = by_name(Draft(DEFAULT))
    assert f["slo.attainment"].limits == "above 0, at most 1"
    assert (
        f["deployments.0.pod.drain_s"].label == "drain_s [s]"
        and "finish its requests" in f["deployments.0.pod.drain_s"].help
    )
    assert f["prices.egress_usd_per_gb"].unit == "USD/GB" and f["prices.egress_usd_per_gb"].nullable
    assert f["deployments.0.engine.scheduling_policy"].choices == ("fcfs", "priority")
    assert "llama" in " ".join(f["deployments.0.model"].choices).lower()
    assert panel_of(("deployments", 1, "autoscaler", "kind")) == "Autoscaling"
    silent = [x.name for x in f.values() if not x.help and not x.tag]
    assert silent == []


def unions():
    """Every member that a form offers, of every union of the default scenario."""
    for f in fields(DEFAULT.to_mapping()):
        if f.tag:
            yield from ((f.name, choice) for choice in f.choices)


@pytest.mark.parametrize("name, choice", list(unions()))
def test_every_offered_member_makes_a_valid_scenario(name, choice):
    draft = Draft(DEFAULT)
    draft.set(by_name(draft)[name], choice)
    assert by_name(draft)[name].value == choice
    draft.scenario()


def test_members_bring_their_own_fields():
    draft = Draft(DEFAULT)
    assert "deployments.0.autoscaler.metrics" not in by_name(draft)
    draft.set(by_name(draft)["deployments.0.autoscaler.kind"], "hpa")
    assert by_name(draft)["deployments.0.autoscaler.metrics"].kind == "yaml"
    assert by_name(draft)["deployments.0.autoscaler.max_replicas"].value == 8
    assert Scenario.of(draft.mapping).deployments[0].autoscaler.kind == "hpa"


def test_what_has_no_simple_form_is_yaml():
    s = Scenario.load(examples_folder() / "mixed.yaml")
    f = {x.name: x for x in fields(s.to_mapping())}
    assert f["workload.classes"].kind == "yaml" and "name: chat" in shown(f["workload.classes"])
    assert yaml.safe_load(shown(f["workload.classes"])) == s.to_mapping()["workload"]["classes"]


def test_entries():
    f = by_name(Draft(DEFAULT))
    replicas, seqs = f["deployments.0.replicas"], f["deployments.0.engine.max_num_seqs"]
    assert (
        entered(replicas, "4") == 4 and entered(seqs, " ") is None and entered(f["workload.rate_rps"], 3.14159) == 3.142
    )
    assert entered(f["deployments.0.traffic_classes"], "[a, b]") == ["a", "b"]
    with pytest.raises(ServelabError, match=r"deployments.0.replicas: 'four' is not a number"):
        entered(replicas, "four")
    with pytest.raises(ServelabError, match="not YAML"):
        entered(f["admission"], "[1,")
    with pytest.raises(ServelabError, match="(?s)admission is not YAML: .*given twice"):
        entered(f["admission"], "{a: 1, a: 2}")
    assert entered(f["admission"], "[1e-3]") == [1e-3]
    for text, message in [
        ("nan", "not a finite number"),
        ("-inf", "not a finite"),
        ("1e308", "beyond the largest whole number"),
    ]:
        with pytest.raises(ServelabError, match=f"deployments.0.replicas: '{text}' is .*{message}"):
            entered(replicas, text)
    assert [k.path[-1] for k in knobs(list(f.values()), 0)] == [
        "rate_rps",
        "gpu",
        "replicas",
        "tensor_parallel_size",
        "max_num_seqs",
        "max_num_batched_tokens",
    ]
    assert steps(seqs)[0] == ("default", "") and ("128", 128) in steps(seqs)


# ---- draft ----------------------------------------------------------------------------------------------------


def test_undo_and_redo():
    now = [0.0]
    draft = Draft(DEFAULT, clock=lambda: now[0])
    rate = "workload.rate_rps"
    for value in (17.0, 18.0, 19.0):  # one drag of a slider
        now[0] += 0.2
        draft.set(by_name(draft)[rate], value)
    now[0] += 5
    draft.set(by_name(draft)["deployments.0.replicas"], 4)
    assert draft.scenario().deployments[0].replicas == 4
    draft.undo()
    assert (draft.scenario().deployments[0].replicas, draft.scenario().workload.rate_rps) == (2, 19.0)
    draft.undo()
    assert draft.scenario() == DEFAULT and not draft.can_undo
    draft.undo()
    draft.redo(), draft.redo()
    assert draft.scenario().deployments[0].replicas == 4 and not draft.can_redo
    draft.undo()
    draft.set(by_name(draft)["slo.ttft_s"], 2.0)
    assert not draft.can_redo


def test_a_faulty_edit_stays_and_is_said():
    draft = Draft(DEFAULT)
    draft.set(by_name(draft)["deployments.0.replicas"], -1)
    with pytest.raises(ServelabError, match=r"deployments.0.replicas.*greater than or equal to 0, got -1"):
        draft.scenario()
    draft.undo()
    assert draft.scenario() == DEFAULT


def test_a_file_restores_the_state():
    draft = Draft(DEFAULT)
    draft.set(by_name(draft)["slo.ttft_s"], 0.7)
    state = of_text(draft.to_text(5, DEFAULT.to_mapping(), 7))
    assert Scenario.of(state.mapping).slo.ttft_s == 0.7 and (state.seed, state.pinned_seed) == (5, 7)
    assert state.pinned == DEFAULT.to_mapping()
    assert of_text(DEFAULT.to_yaml()).mapping == DEFAULT.to_mapping()  # a scenario as it is


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1", "the file is not YAML"),
        ("- 1", "expected a mapping, got list"),
        ("explorer: 9", "format 9 is not supported"),
        ("explorer: 1\nscenarios: {}", "scenarios: unknown field .did you mean 'scenario'"),
        ("explorer: 1\nseed: -1\nscenario: {}", "seed must be a whole number of 0 to 2,147,483,648, got -1"),
        ("explorer: 1\nseed: 1000000000000\nscenario: {}", "seed must be .*got 1000000000000"),
        ("explorer: 1\nseed: true\nscenario: {}", "seed must be .*got True"),
        ("explorer: 1\npinned_seed: x\nscenario: {}", "pinned_seed must be .*got 'x'"),
        ("explorer: 1\nscenario: {}", "workload: this field is required"),
        ("a: 2024-99-99", "the file is not YAML: month must be in 1..12"),
        ("? [a]\n: 1", "the file is not YAML"),
        ("[" * 5000, "nested too deeply"),
        ("a: !!timestamp x", "the file is not YAML"),
        ("a: " + "x" * 1_000_001, "longer than the 1,000,000"),
        ("a: &a [1]\nb: [" + "*a, " * 60 + "]", "more than 50 aliases"),
    ],
)
def test_files_that_are_none(text, message):
    with pytest.raises(ServelabError, match=message):
        of_text(text)


def test_presets_are_scenarios():
    found = presets()
    assert {"default", "kubernetes", "mixed"} <= set(found) and "plan" not in found
    for path in found.values():
        Draft(Scenario.load(path), files=False).scenario()


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("workload", {"source": "trace", "path": "/etc/passwd"}, "workload.path: '/etc/passwd'"),
        ("prices", {"file": "mine.csv"}, "prices.file: 'mine.csv'"),
        ("model", "/srv/models/mine", "deployments.0.model: '/srv/models/mine'"),
        ("step_time", {"kind": "profile", "name": "/srv/p.json"}, "deployments.0.step_time.name: '/srv/p.json'"),
    ],
)
def test_a_page_for_others_reads_no_files(path, value, message):
    mapping = DEFAULT.to_mapping()
    if path in mapping:
        mapping[path] = value
    else:
        mapping["deployments"][0][path] = value
    with pytest.raises(ServelabError, match=message):
        Draft(DEFAULT, files=False).replace(Scenario.of(mapping))


# ---- preview --------------------------------------------------------------------------------------------------


def test_preview_is_near_simulation():
    """Within twice the error that it states (a median) plus what 1,000 s of traffic leave to chance."""
    s = Scenario.of(
        DEFAULT.to_mapping()
        | {"workload": {"source": "azure_conversation", "profile": "flat", "rate_rps": 24.0, "duration_s": 1000.0}}
    )
    found = preview(s)
    rows = simulate(s).summary(trim_warmup_s=60).set_index(["metric", "stat"])["value"]
    tpot, ttft = found.error
    assert found.tpot_s == pytest.approx(rows["tpot_s", "mean"], rel=2 * tpot + 0.05)
    assert found.ttft_s == pytest.approx(rows["ttft_s", "mean"], rel=2 * ttft + 0.05)
    assert found.usd_per_hour == pytest.approx(5.9, rel=0.5) and found.trust == "roofline" and not found.overloaded


def test_preview_of_a_path_is_of_the_llm_alone():
    s = Scenario.load(examples_folder() / "microservices.yaml")
    assert preview(s).alone and not preview(DEFAULT).alone


def test_preview_follows_the_rate_and_says_when_it_is_too_much():
    draft = Draft(DEFAULT)
    calm = preview(draft.scenario())
    draft.set(by_name(draft)["workload.rate_rps"], 10_000.0)
    mad = preview(draft.scenario())
    assert mad.overloaded and mad.limit and mad.load > 100 and mad.error is None and np.isnan(mad.ttft_s)
    assert mad.most_rps == pytest.approx(calm.most_rps)
    draft.set(by_name(draft)["deployments.0.replicas"], 4)
    assert preview(draft.scenario()).most_rps == pytest.approx(2 * calm.most_rps)


def test_preview_of_classes_draws_no_more_than_a_sample():
    mapping = DEFAULT.to_mapping()
    arrivals = {"kind": "poisson", "rate_rps": 8.0}
    mapping["workload"] = {
        "source": "synthetic",
        "duration_s": 6e5,
        "classes": [{"preset": "chat", "arrivals": arrivals}],
    }
    began = time.monotonic()
    assert preview(Scenario.of(mapping)).rate_rps == pytest.approx(8.0) and time.monotonic() - began < 20
    with pytest.raises(ServelabError, match="closed loops"):
        preview(Scenario.load(examples_folder() / "mixed.yaml"))


def synthetic(arrivals, turns=None, **more):
    mapping = DEFAULT.to_mapping()
    one = {"arrivals": arrivals, "prompt_tokens": TOKENS, "output_tokens": TOKENS}
    session = {"session": {"turns": {"kind": "fixed", "tokens": turns}}} if turns else {}
    mapping["workload"] = {"source": "synthetic", "classes": [one | session], **more}
    return Scenario.of(mapping)


TOKENS = {"kind": "fixed", "tokens": 64}
SPIKE = {"start_s": 0.0, "duration_s": 1000.0, "factor": 1e6}
CALM = {"kind": "poisson", "rate_rps": 1.0}


@pytest.mark.parametrize(
    "made, message",
    [
        (synthetic({"kind": "poisson", "rate_rps": 1e6}, requests=10**9), "1,000,000,000 requests"),
        (
            synthetic({"kind": "profile", "points": [[0.0, 1.0]], "spikes": [SPIKE]}, duration_s=1e3),
            "1,000,000,000 requests",
        ),
        (
            synthetic({"kind": "profile", "points": [[0.0, 1.0]], "spikes": [SPIKE]}, duration_s=1e9),
            "1,999,999,000 requests",
        ),
        (synthetic({"kind": "diurnal", "rate_rps": 1e3, "peak_to_mean": 2.0}, duration_s=1e6), "requests, more than"),
        (synthetic(CALM, duration_s=1e300), "requests, more than"),
    ],
)
def test_preview_of_much_traffic_draws_a_sample_and_says_so(made, message):
    began = time.monotonic()
    found = preview(made)
    assert message in found.too_large and message in preview_card(found)
    assert time.monotonic() - began < 5
    assert not preview(DEFAULT).too_large


def test_preview_of_what_is_too_large_says_so_at_once():
    many = DEFAULT.to_mapping()
    many["deployments"][0] |= {"data_parallel_size": 256, "replicas": 100_000}
    for made, message in [
        (synthetic(CALM, 30_000, duration_s=10.0), "repeat earlier ones about 4,499,850,000 times"),
        (Scenario.of(many), "25,600,000 pods"),
    ]:
        began = time.monotonic()
        with pytest.raises(TooLarge, match=message):
            preview(made)
        assert time.monotonic() - began < 2


def test_expected_requests_are_those_that_come():
    spike = {"start_s": 40.0, "duration_s": 30.0, "factor": 5.0}
    for arrivals, within in [
        (
            {
                "kind": "diurnal",
                "rate_rps": 1.0,
                "peak_to_mean": 1.8,
                "day_factors": [1, 2, 3, 4, 5, 6, 7],
                "start_s": 5e5,
            },
            3e5,
        ),
        ({"kind": "profile", "points": [[0.0, 20.0], [30.0, 80.0]], "period_s": 50.0, "spikes": [spike, spike]}, 220.0),
        ({"kind": "profile", "points": [[0.0, 200.0], [30.0, 80.0]], "interpolation": "step"}, 90.0),
    ]:
        made = synthetic(arrivals, duration_s=within)
        process = made.workload.classes[0].arrivals
        assert expected_requests(made) == pytest.approx(process.rate(within).integral(within), rel=1e-9)
        assert len(requests_of(made, 0)) == pytest.approx(expected_requests(made), rel=0.05)


def test_preview_of_long_sessions_that_come_seldom():
    found = preview(synthetic({"kind": "poisson", "rate_rps": 0.01}, 300, duration_s=20_000.0))
    assert found.rate_rps == pytest.approx(3.0)


def test_preview_says_where_it_does_not_apply():
    mapping = DEFAULT.to_mapping()
    mapping["deployments"][0]["serving"] = {"kind": "one_at_a_time"}
    with pytest.raises(ServelabError, match="serving.kind=one_at_a_time"):
        preview(Scenario.of(mapping))
    two = DEFAULT.to_mapping()
    two["deployments"] = [two["deployments"][0], two["deployments"][0] | {"name": "other"}]
    with pytest.raises(ServelabError, match="2 deployments"):
        preview(Scenario.of(two))
    mapping = DEFAULT.to_mapping()
    mapping["deployments"][0]["model"] = "llama-3.1-405b"
    with pytest.raises(ServelabError, match="memory"):
        preview(Scenario.of(mapping))


def test_its_known_error_is_that_of_the_docs():
    text = (examples_folder().parent / "docs" / "planner.md").read_text()
    for load, tpot, ttft in load_analytic_error():
        assert f"| {load:.0%} | {tpot:.1%} | {ttft:.1%} |".replace("%", " %") in text


# ---- jobs -----------------------------------------------------------------------------------------------------


def test_a_job_reports_and_ends():
    told, ended = [], []

    def work(report):
        for i in range(1, 6):
            time.sleep(0.03)
            report(i, 5, f"{i}")
        return "found"

    job = Job(work, told.append, ended.append, every_s=0.0).start()
    assert job.wait(10) and job.status == "done" and job.result == "found" and ended == [job]
    shares = [p.fraction for p in told]
    assert shares == [0.2, 0.4, 0.6, 0.8, 1.0] and told[-1].remaining_s == 0
    assert told[1].remaining_s == pytest.approx(told[1].elapsed_s * 0.6 / 0.4)


def test_time_goes_on_without_reports():
    told = []

    def work(report):
        report(1, 4, "one of four")
        time.sleep(0.5)

    job = Job(work, told.append, every_s=0.0, tick_s=0.1).start()
    assert job.wait(10) and job.status == "done"
    assert len(told) >= 3 and {p.text for p in told} == {"one of four"}
    assert told[-1].elapsed_s > told[0].elapsed_s + 0.2 and told[-1].fraction == 0.25
    said = len(told)
    time.sleep(0.3)
    assert len(told) == said


@pytest.mark.parametrize(
    "slo, name, message, colour",
    [
        ({"deadline_s": 100.0}, "default", "a deadline is not one of means: simulate", "#999"),
        ({"e2el_s": 0.5}, "default", "On average slower than the SLO at 16 requests/s: E2EL 1.6", WARN),
        ({"e2el_s": 60.0}, "default", "On average within the SLO", GOOD),
        ({"ttft_s": 1e-9, "tpot_s": 1.0}, "default", "within its TTFT and TPOT up to 0", WARN),
        ({}, "default", "the SLO has no limit", "#999"),
        ({"ttft_s": 1.0, "tpot_s": 0.05}, "microservices", "of the LLM alone; simulate for the verdict", "#999"),
    ],
)
def test_the_preview_claims_no_more_than_it_knows(slo, name, message, colour):
    mapping = Scenario.load(examples_folder() / f"{name}.yaml").to_mapping() | {"slo": slo}
    card = preview_card(preview(Scenario.of(mapping)))
    assert message in card and f"--sl:{colour}" in card
    assert ("On average within the SLO" in card) == (colour == GOOD)
    assert ("highest rate within" in card) == ("ttft_s" in slo and name == "default")


def test_the_bill_without_a_price_says_so():
    mapping = scenario().to_mapping()
    gpu = find_gpu("h100").model_dump(mode="json") | {"name": "mine"}
    mapping["deployments"][0]["gpu"] = gpu
    job = Job(Work().run(Scenario.of(mapping), 0)).start()
    assert job.wait(120) and job.status == "done", job.problem
    said = list(tabs(job.result)["Cost"]())
    assert len(said) == 1 and "mine" in said[0].text and "price" in said[0].text


def test_a_job_is_off_the_main_thread_and_says_what_went_wrong():
    seen = []

    def work(report):
        seen.append(threading.current_thread() is threading.main_thread())
        raise ServelabError("replicas must be positive, got -3")

    job = Job(work).start()
    assert (
        job.wait(10)
        and (job.status, job.problem) == ("failed", "replicas must be positive, got -3")
        and seen == [False]
    )
    other = Job(lambda report: 1 / 0).start()
    assert other.wait(10) and other.status == "failed" and "ZeroDivisionError" in other.problem


def test_a_cancelled_simulation_gives_what_it_reached():
    s = Scenario.of(
        DEFAULT.to_mapping() | {"workload": {"source": "azure_conversation", "rate_rps": 30.0, "duration_s": 36_000}}
    )
    reached = threading.Event()
    job = Job(Work().run(s, 0), lambda p: reached.set() if p.fraction else None, every_s=0.0)
    job.start()
    assert reached.wait(120)
    job.cancel()
    assert job.wait(60) and job.status == "cancelled"
    result = job.result.found
    assert isinstance(result, Result) and result.partial and 0 < result.counts()["completed"] < 1_000_000


def test_outcomes_are_kept_and_partial_ones_are_not():
    work, s = Work(), scenario()
    first = Job(work.run(s, 1)).start()
    assert first.wait(120)
    again = Job(work.run(s, 1)).start()
    assert again.wait(10)
    assert not first.result.cached and again.result.cached and again.result.found is first.result.found
    other = Job(work.run(s, 2)).start()
    assert other.wait(60) and not other.result.cached
    stopped = Job(work.run(s, 3))
    stopped.cancel()
    stopped.start().wait(60)
    later = Job(work.run(s, 3)).start()
    assert later.wait(60) and not later.result.cached and not later.result.found.partial


def test_capacity_and_plan_count_their_runs():
    s = Scenario.of(
        scenario().to_mapping()
        | {"slo": {"ttft_s": 0.5, "tpot_s": 0.05, "window_s": 30}, "prices": {"usd_per_gpu_hour": {"h100": 2.0}}}
    )
    told = []
    job = Job(Work().capacity(s, 0), told.append, every_s=0.0).start()
    assert job.wait(120) and job.status == "done", job.problem
    counts = [int(p.text.split()[0]) for p in told if p.text[:1].isdigit()]
    assert counts == sorted(counts) and counts[-1] == len(job.result.found.curve)
    job = Job(
        Work().plan(s, 0, {"replicas": [1, 2]}, Claim(probability=0.6, confidence=0.6)), told.append, every_s=0.0
    ).start()
    assert job.wait(120) and job.status == "done" and job.result.found.best is not None, job.problem


def test_a_run_may_not_be_too_large():
    s = Scenario.of(
        DEFAULT.to_mapping() | {"workload": {"source": "azure_conversation", "rate_rps": 100.0, "duration_s": 3600}}
    )
    assert expected_requests(s) == 360_000
    with pytest.raises(ServelabError, match="about 360,000 requests, more than the 1,000"):
        Limits(requests=1000).check(s)
    job = Job(Work(limits=Limits(requests=1000)).run(s, 0)).start()
    assert job.wait(10) and job.status == "failed" and "360,000" in job.problem
    mixed = Scenario.load(examples_folder() / "mixed.yaml")
    drawn = np.mean([len(requests_of(mixed, seed)) for seed in range(4)])  # conversations of 1 to 8 turns, by day
    assert expected_requests(mixed) == pytest.approx(drawn, rel=0.03)
    many = DEFAULT.to_mapping()
    many["deployments"][0] |= {"replicas": 1000}
    with pytest.raises(ServelabError, match="1,000 pods, more than the 256.*lower replicas"):
        FOR_OTHERS.check(Scenario.of(many))
    many["deployments"][0] |= {"replicas": 200, "engine": {"max_num_seqs": 8192, "max_num_batched_tokens": 8192}}
    with pytest.raises(ServelabError, match="1,638,400 sequences"):
        FOR_OTHERS.check(Scenario.of(many))


def test_a_search_is_bounded_too():
    """A little traffic for a long time: what the GPUs could take in that time is too much."""
    s = Scenario.of(
        DEFAULT.to_mapping() | {"workload": {"source": "azure_conversation", "rate_rps": 0.01, "duration_s": 1_000_000}}
    )
    job = Job(Work(limits=FOR_OTHERS).capacity(s, 0)).start()
    assert job.wait(60) and job.status == "failed" and "more than the 500,000" in job.problem
