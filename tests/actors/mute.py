"""Lives, and says nothing."""

import stage

stage.drop_the_curtain()
stage.sleep_for_ever()
