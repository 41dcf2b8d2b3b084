"""Dataset rows to batches of tokens.

Read `dataset`, `options`, `template`, `render`, `encode`, `counters`, then the other row formats
(`preference`, `prompts`, `qa`, `seq2seq`), then `collate`, `lengths` and `preview`.
"""
