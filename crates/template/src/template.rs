use std::sync::Arc;

use marblerun_secret::SecretBytes;

use crate::budget::Budget;
use crate::error::Error;
use crate::tree::{Body, Definitions};
use crate::value::{Function, Value};
use crate::{exec, parse, references};

/// A parsed template: immutable, cheap to share, executed any number of times.
pub struct Template {
    pub(crate) source: Arc<[u8]>,
    pub(crate) functions: &'static [Function],
    pub(crate) main: Arc<Body>,
    pub(crate) definitions: Definitions,
    pub(crate) nodes: usize,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("bytes", &self.source.len()).finish_non_exhaustive()
    }
}

impl Template {
    /// Parses `source`; identifiers may be built-in functions or those of `functions`.
    ///
    /// # Errors
    /// The first mistake in the text, or the limit that it exceeds. Functions are checked in all branches.
    pub fn parse(source: &[u8], functions: &'static [Function]) -> Result<Self, Error> {
        let parsed = parse::parse(source, functions)?;
        Ok(Self {
            source: source.into(),
            functions,
            main: parsed.main,
            definitions: parsed.definitions,
            nodes: parsed.nodes,
        })
    }

    /// Number of parts: what the parsed form costs in memory, some hundred bytes each.
    pub fn node_count(&self) -> usize {
        self.nodes
    }

    /// Executes the template with `data` as `.` and `$`.
    ///
    /// # Errors
    /// The first error; output that was made before it is wiped.
    pub fn execute(&self, data: &Value, budget: &mut Budget) -> Result<SecretBytes, Error> {
        exec::execute(self, data, budget)
    }

    /// The parts of the data that the template can look at, found without executing it.
    ///
    /// Each path is a chain of names from the data; everything below its end may be used too. The empty path stands
    /// for all of the data and is the answer wherever the analysis cannot tell. Branches that are never taken count.
    pub fn references(&self) -> references::References {
        references::find(self)
    }
}
