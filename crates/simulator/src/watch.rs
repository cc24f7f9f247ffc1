//! What looks at the program's calls beside the rules of Occlum.

use std::rc::Rc;

use marblerun_linux::seccomp::{Answer, Notification};

use crate::border::Border;
use crate::device::CallerMemory;
use crate::filter::Extra;
use crate::hostile::Hostile;

/// Everything that looks at a run; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Watchers {
    /// Looks for planted secrets in what leaves.
    pub border: Option<Rc<Border>>,
    /// Does harm.
    pub hostile: Option<Rc<Hostile>>,
}

impl Watchers {
    /// The calls that must be shown. `mark` is in those that belong to the simulator itself.
    pub fn extras(&self, mark: u32) -> Vec<Extra> {
        let border = self.border.iter().flat_map(|border| border.extras(mark));
        border.chain(self.hostile.iter().flat_map(|hostile| hostile.extras(mark))).collect()
    }

    /// Looks at a call before anything is decided about it. An answer is final.
    pub fn see(&self, call: &Notification, caller: &dyn CallerMemory) -> Option<Answer> {
        if let Some(border) = &self.border {
            border.look(call, caller);
        }
        self.hostile.as_ref()?.see(call, caller)
    }

    /// The next program gets a root of its own.
    pub fn begin_program(&self) {
        if let Some(border) = &self.border {
            border.forget_mounts();
        }
    }

    /// True if everything must end now, before the call is performed.
    pub fn end_all(&self) -> bool {
        self.hostile.as_ref().is_some_and(|hostile| hostile.has_killed())
    }
}
