from pgpool_core.compiled import use_bundle

use_bundle()
