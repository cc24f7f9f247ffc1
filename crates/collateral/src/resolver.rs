//! Names to addresses, by the system's resolver.
//!
//! The system's call may take half a minute where no name server answers, and cannot be cancelled. On the runtime's
//! threads for blocking work, which are few, such calls would pile up and hold everybody's work. So each name has at
//! most one thread of its own, and all who want the name wait for that one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// A name may have more addresses than anybody needs.
const MAX_ADDRESSES: usize = 8;

type Name = (String, u16);
/// Addresses, or what the system says.
type Answer = Result<Vec<SocketAddr>, String>;
type Lookup = fn(&Name) -> Answer;

/// Resolves the few names that one client asks.
#[derive(Debug)]
pub(crate) struct Resolver {
    lookup: Lookup,
    /// Look-ups that go on or went on; one for each name.
    lookups: Mutex<HashMap<Name, watch::Receiver<Option<Answer>>>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { lookup: system, lookups: Mutex::default() }
    }
}

impl Resolver {
    /// The addresses of a host; of a literal address itself.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> Answer {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let mut answer = self.join((host.to_owned(), port))?;
        match answer.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(answer)) => answer.clone(),
            _ => Err("the look-up was interrupted".to_owned()),
        }
    }

    /// The look-up for a name, a new one if none goes on.
    fn join(&self, name: Name) -> Result<watch::Receiver<Option<Answer>>, String> {
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = lookups.get(&name)
            && lookup.borrow().is_none()
            && lookup.has_changed().is_ok()
        {
            return Ok(lookup.clone());
        }
        let (sender, receiver) = watch::channel(None);
        let (lookup, wanted) = (self.lookup, name.clone());
        std::thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || sender.send_replace(Some(lookup(&wanted))))
            .map_err(|error| format!("no thread for the look-up: {error}"))?;
        lookups.insert(name, receiver.clone());
        Ok(receiver)
    }
}

fn system((host, port): &Name) -> Answer {
    let addresses = (host.as_str(), *port).to_socket_addrs().map_err(|error| error.to_string())?;
    let addresses: Vec<_> = addresses.take(MAX_ADDRESSES).collect();
    if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Condvar};

    use super::*;

    #[tokio::test]
    async fn addresses_need_no_look_up_and_names_are_looked_up_by_the_system() {
        let never = Resolver { lookup: |_| panic!("nobody asks"), lookups: Mutex::default() };
        assert_eq!(never.resolve("127.0.0.1", 7).await.unwrap(), ["127.0.0.1:7".parse().unwrap()]);
        assert_eq!(never.resolve("::1", 7).await.unwrap(), ["[::1]:7".parse().unwrap()]);
        let addresses = Resolver::default().resolve("localhost", 7).await.unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 7), "{addresses:?}");
        Resolver::default().resolve("..", 7).await.unwrap_err();
        never.resolve("name", 7).await.unwrap_err();
    }

    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    fn slow(_: &Name) -> Answer {
        CALLS.fetch_add(1, Ordering::SeqCst);
        let open = GATE.0.lock().unwrap();
        drop(GATE.1.wait_while(open, |open| !*open).unwrap());
        Ok(vec!["127.0.0.1:1".parse().unwrap()])
    }

    // rules: ATT-11.3
    #[tokio::test]
    async fn a_name_server_that_never_answers_takes_one_thread_however_often_it_is_asked() {
        let resolver = Arc::new(Resolver { lookup: slow, lookups: Mutex::default() });
        for _ in 0..20 {
            let given_up = tokio::time::timeout(std::time::Duration::from_millis(1), resolver.resolve("name", 1));
            assert!(given_up.await.is_err());
        }
        let waiting = tokio::spawn({
            let resolver = Arc::clone(&resolver);
            async move { resolver.resolve("name", 1).await }
        });
        tokio::task::yield_now().await;
        *GATE.0.lock().unwrap() = true;
        GATE.1.notify_all();
        waiting.await.unwrap().unwrap();
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
        // What was learnt is not kept: addresses change.
        resolver.resolve("name", 1).await.unwrap();
        assert_eq!(CALLS.load(Ordering::SeqCst), 2);
    }
}
