"""The log format of the official RLM visualizer: written by ``rlm export``, read by ``rlm report``.

A log is one JSONL file: a line of metadata, then a line for each turn of the root model. No field
here is a guess. They were read in https://github.com/alexzhang13/rlm:

- ``rlm/core/types.py`` at 4878c1037b4406a253fb424998880e43a96d0728: what `RLMMetadata`,
  `RLMIteration`, `CodeBlock`, `REPLResult`, `RLMChatCompletion` and `UsageSummary` write; at
  056fc96c1b4cb5903416b43e9d49f2a0b99a23de: ``error`` of a call that failed;
- ``rlm/logger/rlm_logger.py`` at cde7ee1185a39edba4bc123da4f0fd1fa2a7e98c: the lines, and
  ``run_context``, which some versions write and the visualizer does not know: it is read, not
  written; ``docs/examples/trace-log-example.jsonl`` at a7d9abfd614d04443a41eda897ad9a3c94c914d1;
- ``visualizer/src/lib/types.ts`` at b765d664ff58ddcdd6b973400be8cf59fad068f7 and ``parse-logs.ts``
  at 37f0decc51255e0c4e9e78253927280cfd052988: what the visualizer reads; ``prompt_tokens`` and
  ``completion_tokens`` of a call stand only there;
- ``docs/api/rlm.md`` at 18ba56d95bc44bbf44da3173521b0052b1bf75c7: ``metadata`` of a call holds the
  trajectory of a loop below. Its two fields, and ``final_answer`` of a code block, were read in a
  copy of the project, xijia-tao/rlm at 6c6e8f60ce24d59335edf301c8052c2470dbfbb0 (``rlm_logger.py``
  and ``types.py``), since the first has no file of that version in the index that was at hand.

What the format has no place for is listed in docs/visualizer.md.
"""
