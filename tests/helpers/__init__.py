"""What tests share, beside fixtures."""

import pytest

# So that their asserts tell values, as those of test modules do.
pytest.register_assert_rewrite("helpers.engine_checks", "helpers.cuda_checks")
