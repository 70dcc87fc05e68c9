"""The Datadog pack by Datadog's published API: its typed models take every object in full, and its client gets from the
demo what `datadog … --apply` made there."""

import configparser
import copy
import json
import os
import pathlib
import subprocess
from xml.etree import ElementTree

import pytest
from datadog_api_client import ApiClient, Configuration
from datadog_api_client.model_utils import UnparsedObject, validate_and_convert_types
from datadog_api_client.v1.api.dashboards_api import DashboardsApi
from datadog_api_client.v1.api.logs_pipelines_api import LogsPipelinesApi
from datadog_api_client.v1.api.monitors_api import MonitorsApi
from datadog_api_client.v1.model.dashboard import Dashboard
from datadog_api_client.v1.model.logs_pipeline import LogsPipeline
from datadog_api_client.v1.model.monitor import Monitor
from datadog_api_client.v2.api.logs_metrics_api import LogsMetricsApi
from datadog_api_client.v2.model.logs_metric_create_request import LogsMetricCreateRequest

BINARY = os.environ["SDK_BINARY"]
MODELS = {"dashboard": Dashboard, "monitors": Monitor, "pipeline": LogsPipeline, "metrics": LogsMetricCreateRequest}


def objects(part):
    done = subprocess.run([BINARY, "datadog", part], capture_output=True, check=True)
    found = json.loads(done.stdout)
    return found if isinstance(found, list) else [found]


def strange(value, place):
    """What the models do not know: their parser lets it pass, marked."""
    if isinstance(value, UnparsedObject) or getattr(value, "_unparsed", False):
        yield place
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from strange(one, f"{place}[{index}]")
    members = getattr(value, "_data_store", {})
    known = getattr(type(value), "attribute_map", {})
    for name, one in members.items():
        if known and name not in known:
            yield f"{place}.{name}"
        yield from strange(one, f"{place}.{name}")


def strange_in(part, found):
    model = validate_and_convert_types(found, (MODELS[part],), [part], True, True, Configuration())
    return list(strange(model, part))


@pytest.mark.parametrize("part", MODELS)
def test_models_take_it_in_full(part):
    for found in objects(part):
        assert strange_in(part, found) == []


@pytest.mark.parametrize(
    "part, spoil",
    [
        ("dashboard", lambda one: one["widgets"][0]["definition"]["widgets"][1]["definition"].update(type="none")),
        ("dashboard", lambda one: one.update(layout="ordered")),
        ("monitors", lambda one: one.update(type="log alert v2")),
        ("monitors", lambda one: one["options"].update(on_missing_data="sometimes")),
        ("pipeline", lambda one: one["processors"][0].update(type="none")),
        ("metrics", lambda one: one["data"]["attributes"]["compute"].update(aggregation_type="none")),
    ],
)
def test_models_would_tell(part, spoil):
    found = copy.deepcopy(objects(part)[0])
    spoil(found)
    assert strange_in(part, found) != []


def test_what_is_applied_is_there_once(places):
    env = {"DD_API_KEY": places.dd_api_key, "DD_APP_KEY": "an-app-key", "NO_PROXY": "127.0.0.1"}
    for part in MODELS:
        for _ in range(2):
            apply = [BINARY, "datadog", part, "--apply", "--api-url", places.intake]
            subprocess.run(apply, env=env, capture_output=True, check=True)
    configuration = Configuration(host=places.intake)
    configuration.api_key["apiKeyAuth"] = places.dd_api_key
    configuration.api_key["appKeyAuth"] = "an-app-key"
    with ApiClient(configuration) as client:
        titles = [one.title for one in DashboardsApi(client).list_dashboards().dashboards]
        assert titles == ["Policy Gateway"]
        monitors = MonitorsApi(client).list_monitors(monitor_tags="managed_by:policy-gateway")
        assert sorted(one.name for one in monitors) == sorted(one["name"] for one in objects("monitors"))
        assert [one.name for one in LogsPipelinesApi(client).list_logs_pipelines().value] == ["Policy Gateway"]
        metrics = LogsMetricsApi(client).list_logs_metrics().data
        assert [one.id for one in metrics] == [one["data"]["id"] for one in objects("metrics")]


def test_splunk_files_are_well_formed():
    splunk = pathlib.Path(__file__).parents[2] / "deploy" / "splunk"
    form = ElementTree.parse(splunk / "dashboard.xml").getroot()
    queries = [query.text for query in form.iter("query")]
    assert form.tag == "form" and len(queries) == 8
    conf = configparser.RawConfigParser(strict=True)
    conf.optionxform = str
    conf.read(splunk / "savedsearches.conf")
    for name in conf.sections():
        assert conf[name]["search"].startswith("index=* sourcetype="), name
    for query in [*queries, *(conf[name]["search"] for name in conf.sections())]:
        assert query.count("(") == query.count(")") and query.count('"') % 2 == 0, query
