//! Collateral of the platform that we run on, for our own quote: fetched at start and kept fresh, in the background.

use std::sync::Arc;
use std::time::Duration;

use marblerun_collateral::Request;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use crate::quoter::Quoter;
use crate::report;
use crate::trust::Trust;
use crate::view::SharedView;

/// How often it is looked at whether there is something to do. A look without work costs microseconds.
const INTERVAL: Duration = Duration::from_secs(60);

/// Starts looking after our own collateral; the task ends with the process. In simulation there is nothing to do.
pub fn start(trust: Arc<Trust>, view: SharedView, quoter: Arc<Quoter>) {
    if matches!(*trust, Trust::Simulation) {
        return;
    }
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            look_after(&trust, &view, &quoter).await;
        }
    });
}

/// Asks for new collateral if that is due, and makes the kept quote anew if there is other collateral than in it.
///
/// Whatever fails is tried again at the next look, and the quote is served meanwhile.
pub async fn look_after(trust: &Arc<Trust>, view: &SharedView, quoter: &Arc<Quoter>) {
    let wanted = {
        let (trust, view, quoter) = (Arc::clone(trust), view.clone(), Arc::clone(quoter));
        move || wanted(&trust, &view, &quoter)
    };
    if let Ok(Some(request)) = tokio::task::spawn_blocking(wanted).await {
        let floor = view.load().snapshot.floor.clone();
        if let Err(error) = trust.obtain(&request, &floor).await {
            // The supply of collateral has told the operator.
            debug!(error = report::chain(&error), "no collateral for our own quote");
        }
    }
    let quoter = Arc::clone(quoter);
    let renew = move || {
        if quoter.has_other_collateral() {
            quoter.renew_or_warn();
        }
    };
    if tokio::task::spawn_blocking(renew).await.is_err() {
        debug!("looking after our own collateral was interrupted");
    }
}

fn wanted(trust: &Trust, view: &SharedView, quoter: &Quoter) -> Option<Request> {
    let answer = quoter.answer(&[]).ok()?;
    trust.wanted_for_us(answer.quote.as_deref()?, &view.load().snapshot.floor)
}
