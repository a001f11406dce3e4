"""What Airflow's LLMBatchOperator does between its waits, in its order, without an Airflow deployment around it."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

from airflow.providers.common.ai.batch import state
from airflow.providers.common.ai.batch.openai import OpenAIBatchAdapter
from airflow.providers.common.ai.batch.output_schema import build_output_spec
from airflow.providers.common.ai.batch.results import stream_results_to_jsonl
from airflow.sdk import ObjectStoragePath
from same import MAX_TOKENS, MODEL, POLL_SECONDS, called, prompt

KEY = state.compute_identity_key(dag_id="benchmark", task_id="ask", run_id="one", map_index=-1)
SPEC = build_output_spec(str)


def submit(adapter: OpenAIBatchAdapter, count: int, folder: ObjectStoragePath) -> None:
    requests = [{"prompt": prompt(number)} for number in range(count)]
    content = {"system_prompt": "", "max_tokens": MAX_TOKENS, "request_params": None}
    fingerprint = state.compute_fingerprint(
        requests=requests, llm_conn_id="openai", model_id=f"openai:{MODEL}", output_schema="str", **content
    )
    noted = {
        "key": KEY,
        "input_fingerprint": fingerprint,
        "output_schema_digest": state.compute_output_schema_digest("str"),
        "intent_at": datetime.now(UTC).isoformat(),
    }
    called_with = {"model": MODEL, "idempotency_key": state.key16(KEY), "output_spec": SPEC, **content}
    adapter.validate_requests(requests, **called_with)
    state.write_intent(folder, **noted)
    submitted = adapter.submit(requests, input_fingerprint=fingerprint, **called_with)
    state.write_submitted(
        folder,
        **noted,
        adapter=adapter.name,
        llm_conn_id="openai",
        model_id=f"openai:{MODEL}",
        output_type_ref=None,
        batch_id=submitted.batch_id,
        provider_input_ref=submitted.provider_input_ref,
        request_count=count,
        submitted_at=datetime.now(UTC).isoformat(),
    )


def collect(adapter: OpenAIBatchAdapter, count: int, folder: ObjectStoragePath) -> None:
    record = state.read_state(folder, KEY)
    assert record is not None
    assert record.batch_id is not None
    while adapter.get_batch(record.batch_id).status != "completed":
        time.sleep(POLL_SECONDS)
    counts, _ = stream_results_to_jsonl(
        adapter=adapter,
        batch_id=record.batch_id,
        output_spec=SPEC,
        request_count=count,
        custom_id_prefix=state.key16(KEY),
        destination=folder / "output.jsonl",
    )
    assert counts["success"] == count, counts


def main(phase: str, count: int, folder: Path) -> None:
    adapter = OpenAIBatchAdapter(base_url=os.environ["OPENAI_BASE_URL"])
    place = ObjectStoragePath(f"file://{folder}")
    (submit if phase == "submit" else collect)(adapter, count, place)


if __name__ == "__main__":
    main(*called())
