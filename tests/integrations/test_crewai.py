"""CrewAI's agents with the memory's tools, in an environment of CrewAI's own (it needs mcp 1.x).

python -m venv crew && crew/bin/pip install crewai==1.15.30 . && MEMORY_R1_CREWAI=crew/bin/python pytest …
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
CREW = os.environ.get("MEMORY_R1_CREWAI")

BEFORE = """
import os
os.environ.update(OTEL_SDK_DISABLED="true", CREWAI_DISABLE_TELEMETRY="true", OPENAI_API_KEY="none")
import memory_r1.memory
from memory_r1.testing import HashEmbedder
memory_r1.memory.default_embedder = HashEmbedder
"""

AFTER = """
tools = {tool.name: tool for tool in helper.tools}
assert set(tools) == {
    *("search_memories", "get_memories", "memory_history"),
    *("add_memory", "update_memory", "delete_memory", "undo_operation"),
}
assert tools["add_memory"].run(text="Mia has a dog called Pepper.").count("ADD") == 1
assert "Pepper" in tools["search_memories"].run(query="dog")
assert set(tools["search_memories"].args_schema.model_fields) == {"query", "limit", "as_of"}
assert "no memory entry" in tools["delete_memory"].run(memory_id="nothing")

from crewai import Crew, Task
from crewai.llms.base_llm import BaseLLM


class Scripted(BaseLLM):
    asked: list = []

    def call(self, messages, *args, **kwargs):
        self.asked.append(messages)
        if len(self.asked) == 1:
            return 'Thought: look\\nAction: search_memories\\nAction Input: {"query": "dog"}\\n'
        return "Thought: I know\\nFinal Answer: " + ("Pepper" if "Pepper" in str(messages) else "?")

    def supports_function_calling(self):
        return False


helper.llm = Scripted(model="scripted")
task = Task(description="What is the dog called?", expected_output="a name", agent=helper)
result = Crew(agents=[helper], tasks=[task]).kickoff()
assert result.raw == "Pepper", result.raw
assert "<recalled-memory" in str(helper.llm.asked[-1])
print("ok")
"""


@pytest.mark.skipif(CREW is None, reason="needs a Python with crewai: MEMORY_R1_CREWAI=path")
def test_an_agent_looks_up_what_the_page_gives_it(tmp_path: Path) -> None:
    assert CREW is not None
    (example,) = [code for code in re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL) if "crewai" in code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [CREW, "-c", BEFORE + example + AFTER],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip().endswith("ok"), done.stdout + done.stderr
