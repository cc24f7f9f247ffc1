//! `dev`: a Coordinator for development, until Ctrl-C.
//!
//! JSON, one line as soon as the Coordinator listens: `{"client": text, "marble": text, "trustSoftwareRoot": text,
//! "eraConfig": text, "collateral": text, "root": text, "profile": text or null}`. Nothing else is written to standard output.

mod watch;

use std::time::Duration;

use marblerun_client::Client;
use serde_json::json;

use crate::args::dev::DevArguments;
use crate::credentials;
use crate::development::{self, Addresses, DevelopmentError, Owner, Renewal, Running, Show, Signals, Site, Start};
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::files;
use crate::output::Output;
use crate::profile::{Name, Profile, Store, absolute};
use crate::simulator::Simulator;
use crate::trust;
use watch::{Change, Watched};

/// The profile that names the Coordinator.
const PROFILE: &str = development::NAME;
/// How often the manifest's file is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Status codes of the client API.
const RECOVERY: u64 = 1;
const ACCEPTING_MANIFEST: u64 = 2;

pub(crate) fn run(arguments: &DevArguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    output.end_progress();
    arguments.manifest.as_deref().map_or(Ok(()), watch::check_kind)?;
    let simulator = Simulator::find()?;
    let site = Site::of_user()?;
    let _lock = site.lock()?;
    let profile = ProfileOfSite::of(&site)?;
    if arguments.fresh {
        site.forget_state()?;
        profile.forget_state()?;
    }
    output.warn(
        "this is a simulation and no protection: whoever can read your files can read and forge everything in it",
    )?;
    match site.renew_root(&simulator, Owner::Caller)? {
        Renewal::Kept => {}
        Renewal::Made => output.step(&format!("Made a development root in {}", site.root().display()))?,
        Renewal::Renewed => {
            output
                .warn("the development root had expired, or nearly so: there is a new one, and the state is empty")?;
            profile.forget_state()?;
        }
    }
    let measurement = site.prepare(&simulator, &site.instance())?;
    let era = format!("{}\n", json!({"UniqueID": measurement}));
    files::replace("expected measurements", &site.era_config(), era.as_bytes())?;
    let dev = Dev { arguments, simulator, site, profile };
    let done = trust::block_on(dev.serve(output));
    dev.site.withdraw()?;
    done
}

struct Dev<'a> {
    arguments: &'a DevArguments,
    simulator: Simulator,
    site: Site,
    profile: ProfileOfSite,
}

impl Dev<'_> {
    async fn serve(&self, output: &mut Output) -> Result<ExitStatus, Failure> {
        // Before anything is started that would have to be ended.
        let mut signals = Signals::take().map_err(Cause::Runtime)?;
        let wanted = Addresses { client: self.arguments.client_addr, marble: self.arguments.marble_addr };
        let mut running = tokio::select! {
            running = self.start(wanted, output) => running?,
            _ = signals.next() => return Ok(ExitStatus::Success),
        };
        self.tell(running.addresses, output)?;
        let mut watched = self.arguments.manifest.as_deref().map(Watched::new);
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = signals.next() => break,
                status = running.ended() => {
                    let reason = running.trouble().pop().unwrap_or_else(|| "no reason given".to_owned());
                    return Err(Cause::Development(DevelopmentError::Stopped { status: status?.to_string(), reason }).into());
                }
                _ = ticks.tick(), if watched.is_some() => {
                    let Some(change) = watched.as_mut().and_then(Watched::change) else { continue };
                    let must_reset = tokio::select! {
                        applied = self.apply(running.addresses, &change, output) => match applied {
                            Ok(must_reset) => must_reset,
                            Err(error) => {
                                tell_failure(&error, output)?;
                                false
                            }
                        },
                        _ = signals.next() => break,
                    };
                    if must_reset {
                        running = self.reset(running, output).await?;
                        if let Err(error) = self.apply(running.addresses, &change, output).await {
                            tell_failure(&error, output)?;
                        }
                    }
                }
            }
        }
        output.step("Ending the Coordinator; its state is kept")?;
        running.stop().await;
        Ok(ExitStatus::Success)
    }

    async fn start(&self, addresses: Addresses, output: &mut Output) -> Result<Running, Failure> {
        let start = Start {
            addresses,
            instance: &self.site.instance(),
            root: &self.site.root(),
            force: self.arguments.force,
            show: if output.is_quiet() { Show::Trouble } else { Show::All },
        };
        let running = Running::start(&self.simulator, start).await?;
        self.site.announce(running.addresses)?;
        self.profile.write(&self.site, running.addresses)?;
        Ok(running)
    }

    /// Starts anew without the state, where it listened before.
    async fn reset(&self, running: Running, output: &mut Output) -> Result<Running, Failure> {
        output.warn("throwing the state away (--reset): Marbles get other keys, and have to be started again")?;
        let addresses = running.addresses;
        running.stop().await;
        self.site.forget_state()?;
        self.profile.forget_state()?;
        self.start(addresses, output).await
    }

    fn tell(&self, addresses: Addresses, output: &mut Output) -> Result<(), Failure> {
        let [client, marble] = [addresses.client, addresses.marble].map(development::reachable);
        let (root, era, collateral) = (self.site.root_certificate(), self.site.era_config(), self.site.collateral());
        if output.is_json() {
            output.json_line(&json!({
                "client": client.to_string(),
                "marble": marble.to_string(),
                "trustSoftwareRoot": root,
                "eraConfig": era,
                "collateral": collateral,
                "root": self.site.root(),
                "profile": self.profile.is_ours.then_some(PROFILE),
            }))?;
        } else {
            output.line("The Coordinator is ready (Ctrl-C ends it)")?;
            for (label, value) in [
                ("Client API", client.to_string()),
                ("Marble API", marble.to_string()),
                ("Trust file", root.display().to_string()),
                ("Measurements", era.display().to_string()),
                ("Collateral", collateral.display().to_string()),
                ("Root for marble-sim", self.site.root().display().to_string()),
            ] {
                output.line(&format!("  {label:<20} {value}"))?;
            }
            output.line("For other terminals:")?;
            output.line(&format!("  export EDG_MARBLE_COORDINATOR_ADDR={marble}"))?;
            if self.profile.is_ours {
                output.line(&format!("  export MARBLERUN_PROFILE={PROFILE}"))?;
            }
        }
        if !self.profile.is_ours {
            output.warn(&format!("profile {PROFILE} names another Coordinator, and is left as it is"))?;
        }
        Ok(())
    }

    /// Sets the manifest, or updates to it. True if only without the state it can be set, and that is allowed.
    async fn apply(&self, addresses: Addresses, change: &Change, output: &mut Output) -> Result<bool, Failure> {
        let (path, file) = (&change.path, change.read()?);
        change.check(&file, output)?;
        let client = development::connect(&self.site, addresses.client).await?;
        let status = client.status().await?;
        match status.code {
            ACCEPTING_MANIFEST => {
                let outcome = client.set_manifest(&file.bytes).await?;
                output.note(&format!("Manifest {} is set", path.display()))?;
                if !outcome.recovery_secrets.is_empty() {
                    output.note("Its recovery secrets are not kept: this state is for development")?;
                }
                Ok(false)
            }
            RECOVERY => Ok(self.must_reset("the kept state does not open", output)?),
            _ if client.manifest().await?.fingerprint == file.signature() => {
                output.step(&format!("Manifest {} is in force", path.display()))?;
                Ok(false)
            }
            _ => self.update(&client, change, &file.bytes, output).await,
        }
    }

    async fn update(
        &self,
        client: &Client,
        change: &Change,
        manifest: &[u8],
        output: &mut Output,
    ) -> Result<bool, Failure> {
        let path = change.path.display();
        if self.arguments.credentials.cert.is_none() {
            let reason = format!(
                "{path} is not the manifest in force, and updates are made by users: give --cert and --key of one, or see \
                 `marblerun manifest plan {path} --profile {PROFILE}`"
            );
            return Ok(self.must_reset(&reason, output)?);
        }
        let user = credentials::user(&self.arguments.credentials)?;
        match client.clone().with_certificate(&user)?.apply_update(manifest).await {
            Ok(outcome) if outcome.is_applied() => {
                output.note(&format!("Update to {path} is applied"))?;
                Ok(false)
            }
            Ok(outcome) => {
                output.note(&format!(
                    "Update to {path} waits: {} more of {} have to run `marblerun manifest update acknowledge`",
                    outcome.missing_acknowledgments,
                    outcome.missing_users.join(", ")
                ))?;
                Ok(false)
            }
            Err(error) => {
                let reason = Failure::from(error).to_string();
                Ok(self.must_reset(&format!("the update to {path} is refused: {reason}"), output)?)
            }
        }
    }

    /// Says why the manifest cannot be set; whether the state is thrown away for it.
    fn must_reset(&self, reason: &str, output: &mut Output) -> std::io::Result<bool> {
        let way_out = if self.arguments.reset { "" } else { "; --reset throws the state away instead" };
        output.warn(&format!("{reason}{way_out}"))?;
        Ok(self.arguments.reset)
    }
}

fn tell_failure(error: &Failure, output: &mut Output) -> std::io::Result<()> {
    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    output.warn(&format!("{error}{hint}"))
}

/// The profile of this name, if it is the one that is written here.
struct ProfileOfSite {
    store: Store,
    name: Name,
    is_ours: bool,
}

impl ProfileOfSite {
    fn of(site: &Site) -> Result<Self, Failure> {
        let (store, name) = (Store::of_user()?, PROFILE.parse::<Name>().map_err(Cause::from)?);
        let is_ours = !store.contains(&name) || store.read(&name)?.era_config == Some(absolute(&site.era_config())?);
        Ok(Self { store, name, is_ours })
    }

    fn write(&self, site: &Site, addresses: Addresses) -> Result<(), Failure> {
        if !self.is_ours {
            return Ok(());
        }
        let old = self.store.contains(&self.name).then(|| self.store.read(&self.name)).transpose()?;
        let profile = Profile {
            address: development::reachable(addresses.client).to_string(),
            era_config: Some(absolute(&site.era_config())?),
            software_roots: vec![absolute(&site.root_certificate())?],
            collateral: Some(absolute(&site.collateral())?),
            // What the user added stays.
            ..old.unwrap_or_default()
        };
        Ok(self.store.write(&self.name, &profile)?)
    }

    /// The next Coordinator is another deployment.
    fn forget_state(&self) -> Result<(), Failure> {
        if self.is_ours { Ok(self.store.forget_state(&self.name)?) } else { Ok(()) }
    }
}
