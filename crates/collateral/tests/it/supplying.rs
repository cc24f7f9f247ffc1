//! Files, memory and services together: what is used, who is asked, and who waits.

use std::sync::Arc;
use std::time::Duration;

use marblerun_attestation::{CollateralFloor, ErrorClass, EvaluationNumbers, FloorEntry, Fmspc, PlatformId, Tee};
use marblerun_collateral::{
    ClientOptions, Figures, KeptCollateral, MAX_FLIGHTS, MAX_REFRESH, MAX_WAIT, MAX_WAITING_PER_PLATFORM, Origin,
    Request, ServiceFailure, Supply, SupplyError, SupplyOptions, file_name,
};
use marblerun_software_tee::{CollateralOptions, Dates, PckCa};

use crate::service::{DAY, NOW, Reply, Service, Vendor, at};

struct Setup {
    vendor: Vendor,
    service: Service,
    supply: Supply,
    floor: CollateralFloor,
    now: u64,
}

impl Setup {
    /// One good service and nothing else.
    async fn new() -> Self {
        Self::with(|_, options| options).await
    }

    async fn with(change: impl FnOnce(&Vendor, SupplyOptions) -> SupplyOptions) -> Self {
        let vendor = Vendor::new(PckCa::Platform);
        let service = Service::start(Reply::Collateral(vendor.good())).await;
        let options = SupplyOptions { services: vec![service.options()], ..SupplyOptions::default() };
        let supply = Supply::new(vendor.roots(), change(&vendor, options)).unwrap();
        Self { vendor, service, supply, floor: CollateralFloor::default(), now: NOW }
    }

    fn request(&self) -> Request {
        self.supply.request(self.vendor.quote(), at(self.now)).unwrap()
    }

    fn at_hand(&self) -> Result<Arc<KeptCollateral>, SupplyError> {
        self.supply.at_hand(&self.vendor.platform(), &self.floor, at(self.now))
    }

    async fn obtain(&self) -> Result<(), SupplyError> {
        self.supply.obtain(&self.request(), &self.floor, at(self.now)).await
    }

    /// As a verifier does it.
    async fn get(&self) -> Result<Arc<KeptCollateral>, SupplyError> {
        match self.at_hand() {
            Err(SupplyError::Wanted { .. }) => {
                self.obtain().await?;
                self.at_hand()
            }
            other => other,
        }
    }

    /// Each fetch makes four requests.
    #[track_caller]
    fn check_fetches(&self, expected: usize) {
        assert_eq!(self.service.requests().len(), 4 * expected);
    }
}

/// Lets time pass without waiting for it.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

fn floor(number: u32) -> CollateralFloor {
    let numbers = EvaluationNumbers { tcb_info: number, qe_identity: number };
    let fmspc = Fmspc(CollateralOptions::default().fmspc);
    CollateralFloor::from_parts([FloorEntry { tee: Tee::Sgx, fmspc, numbers }], None)
}

fn write_bundle(directory: &std::path::Path, vendor: &Vendor, text: &str) {
    std::fs::create_dir_all(directory.join("dcap")).unwrap();
    std::fs::write(directory.join("dcap").join(file_name(&vendor.platform())), text).unwrap();
}

#[tokio::test]
async fn what_was_fetched_is_kept_and_nobody_is_asked_again() {
    let setup = Setup::new().await;
    assert!(matches!(setup.at_hand(), Err(SupplyError::Wanted { .. })));
    setup.check_fetches(0);
    let first = setup.get().await.unwrap();
    assert_eq!(first.origin, Origin::Service(setup.service.url.clone()));
    assert!(Arc::ptr_eq(&first, &setup.get().await.unwrap()));
    setup.check_fetches(1);
}

// rules: ATT-11.3
#[tokio::test]
async fn one_request_is_made_for_all_who_want_the_same_platform() {
    let setup = Setup::new().await;
    let request = setup.request();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (supply, request, floor) = (setup.supply.clone(), request.clone(), setup.floor.clone());
        all.spawn(async move { supply.obtain(&request, &floor, at(NOW)).await });
    }
    assert!(all.join_all().await.iter().all(Result::is_ok));
    setup.check_fetches(1);
}

// rules: ATT-2.3, ATT-11.1
#[tokio::test]
async fn with_files_nobody_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::with(|vendor, options| {
        write_bundle(directory.path(), vendor, &vendor.good());
        SupplyOptions { bundle: Some(directory.path().to_owned()), ..options }
    })
    .await;
    assert!(matches!(setup.get().await.unwrap().origin, Origin::Bundle(_)));
    setup.check_fetches(0);
}

// rules: ATT-11.2
#[tokio::test]
async fn where_files_have_expired_or_are_too_old_a_service_is_asked() {
    for (text, lowest) in [("expired", 0), ("old", 2), ("garbage", 0)] {
        let directory = tempfile::tempdir().unwrap();
        let mut setup = Setup::with(|vendor, options| {
            let text = match text {
                "expired" => vendor.dated(NOW - 40 * DAY, NOW - DAY),
                "old" => vendor.good(),
                _ => "{}".to_owned(),
            };
            write_bundle(directory.path(), vendor, &text);
            SupplyOptions { bundle: Some(directory.path().to_owned()), ..options }
        })
        .await;
        setup.floor = floor(lowest);
        let newer = CollateralOptions { evaluation_number: 2, ..CollateralOptions::default() };
        setup.service.reply(Reply::Collateral(setup.vendor.collateral(&newer)));
        assert!(matches!(setup.get().await.unwrap().origin, Origin::Service(_)), "{text}");
    }
}

#[tokio::test]
async fn without_any_source_that_is_the_answer_and_files_alone_answer_for_themselves() {
    let setup = Setup::with(|_, _| SupplyOptions::default()).await;
    let error = setup.get().await.unwrap_err();
    assert!(matches!(error, SupplyError::NotConfigured { .. }) && error.is_unavailable(), "{error}");
    assert!(error.to_string().starts_with("collateral unavailable for FMSPC FF5357544545"), "{error}");
    assert!(matches!(setup.obtain().await.unwrap_err(), SupplyError::NotConfigured { .. }));
    let directory = tempfile::tempdir().unwrap();
    for (bundle, cache) in [(Some(directory.path()), None), (None, Some(directory.path()))] {
        let owned = |path: Option<&std::path::Path>| path.map(ToOwned::to_owned);
        let files = SupplyOptions { bundle: owned(bundle), cache: owned(cache), ..SupplyOptions::default() };
        let setup = Setup::with(|_, _| files).await;
        let error = setup.get().await.unwrap_err();
        assert!(matches!(error, SupplyError::Lookup(_)) && error.is_unavailable(), "{error}");
        assert!(error.to_string().starts_with("collateral unavailable for FMSPC FF5357544545"), "{error}");
        setup.check_fetches(0);
    }
}

// rules: ATT-11.2
#[tokio::test]
async fn a_source_that_fails_is_named_left_alone_for_a_while_and_then_asked_again() {
    let setup = Setup::new().await;
    setup.service.reply(Reply::status("500 x"));
    let error = setup.get().await.unwrap_err();
    assert!(matches!(&error, SupplyError::Failing { last, .. } if last.to_string().contains("got 500")), "{error:?}");
    assert_eq!((error.class(), error.is_unavailable()), (ErrorClass::NoCollateral, true));
    let asked = setup.service.requests().len();
    setup.service.reply(Reply::Collateral(setup.vendor.good()));
    for _ in 0..100 {
        assert!(matches!(setup.get().await.unwrap_err(), SupplyError::Failing { .. }));
        assert!(matches!(setup.obtain().await.unwrap_err(), SupplyError::Failing { .. }));
    }
    assert_eq!(setup.service.requests().len(), asked, "a flood does not reach the service");
    pass(6).await;
    setup.get().await.unwrap();
}

#[tokio::test]
async fn a_platform_that_a_service_does_not_know_is_asked_for_less_often() {
    let setup = Setup::new().await;
    setup.service.reply(Reply::status("404 x"));
    setup.get().await.unwrap_err();
    let asked = setup.service.requests().len();
    pass(6).await;
    setup.get().await.unwrap_err();
    assert_eq!(setup.service.requests().len(), asked);
    pass(50).await;
    setup.get().await.unwrap_err();
    assert!(setup.service.requests().len() > asked);
}

#[tokio::test]
async fn a_service_that_wants_a_pause_gets_it_for_all_platforms() {
    let other = Vendor::new(PckCa::Processor);
    let mut setup = Setup::new().await;
    let roots = [("a", setup.vendor.root.root_der()), ("b", other.root.root_der())];
    let roots = marblerun_attestation::TrustRoots::software(roots).unwrap();
    let services = vec![setup.service.options()];
    setup.supply = Supply::new(roots, SupplyOptions { services, ..SupplyOptions::default() }).unwrap();
    setup.service.reply(Reply::status("429 x\r\nRetry-After: 120"));
    setup.get().await.unwrap_err();
    let asked = setup.service.requests().len();
    setup.service.reply(Reply::Collateral(other.good()));
    let request = setup.supply.request(other.quote(), at(NOW)).unwrap();
    let error = setup.supply.obtain(&request, &setup.floor, at(NOW)).await.unwrap_err();
    assert!(matches!(&error, SupplyError::Failing { last, .. } if matches!(**last, ServiceFailure::Paused { .. })));
    assert_eq!(setup.service.requests().len(), asked);
    pass(121).await;
    setup.supply.obtain(&request, &setup.floor, at(NOW)).await.unwrap();
}

// rules: ATT-11.2
#[tokio::test]
async fn the_next_service_is_asked_where_one_has_nothing_good() {
    let vendor = Vendor::new(PckCa::Platform);
    let stranger = Vendor::new(PckCa::Platform);
    for bad in [
        Reply::status("500 x"),
        Reply::Collateral(vendor.dated(NOW - 40 * DAY, NOW - DAY)),
        Reply::Collateral(stranger.good()),
        Reply::Collateral(vendor.collateral(&CollateralOptions { fmspc: [1; 6], ..CollateralOptions::default() })),
    ] {
        let (first, second) = (Service::start(bad).await, Service::start(Reply::Collateral(vendor.good())).await);
        let services = vec![first.options(), second.options()];
        let supply = Supply::new(vendor.roots(), SupplyOptions { services, ..SupplyOptions::default() }).unwrap();
        let request = supply.request(vendor.quote(), at(NOW)).unwrap();
        supply.obtain(&request, &CollateralFloor::default(), at(NOW)).await.unwrap();
        let kept = supply.at_hand(&vendor.platform(), &CollateralFloor::default(), at(NOW)).unwrap();
        assert_eq!(kept.origin, Origin::Service(second.url.clone()));
        assert!(!first.requests().is_empty());
    }
}

// rules: ATT-11.4
#[tokio::test]
async fn collateral_below_the_floor_is_not_taken_from_a_service_nor_from_memory() {
    let mut setup = Setup::new().await;
    setup.get().await.unwrap();
    setup.floor = floor(2);
    let error = setup.get().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::CollateralRollback, "{error}");
    assert!(error.is_unavailable() && error.hint().is_some());
}

#[tokio::test]
async fn a_list_that_does_not_speak_for_the_platform_is_not_kept() {
    let setup = Setup::new().await;
    let other = Vendor::new(PckCa::Processor);
    let mut text: serde_json::Value = serde_json::from_str(&setup.vendor.good()).unwrap();
    let other: serde_json::Value = serde_json::from_str(&other.good()).unwrap();
    text["pck_crl"] = other["pck_crl"].clone();
    setup.service.reply(Reply::Collateral(text.to_string()));
    let error = setup.get().await.unwrap_err();
    assert!(
        matches!(&error, SupplyError::Failing { last, .. } if matches!(**last, ServiceFailure::PckCrl { .. })),
        "{error:?}"
    );
    setup.service.reply(Reply::Collateral(setup.vendor.good()));
    pass(6).await;
    setup.get().await.unwrap();
}

// rules: ATT-11.3
#[tokio::test]
async fn nobody_is_asked_about_a_platform_that_the_vendor_did_not_certify() {
    let setup = Setup::new().await;
    let stranger = Vendor::new(PckCa::Platform);
    let error = setup.supply.request(stranger.quote(), at(NOW)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::UntrustedRoot, "{error}");
}

#[tokio::test]
async fn naming_platforms_that_do_not_exist_displaces_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let cache = |_: &Vendor, options| SupplyOptions { cache: Some(directory.path().to_owned()), ..options };
    let setup = Setup::with(cache).await;
    let kept = setup.get().await.unwrap();
    for number in 0..200 {
        let platform = PlatformId { fmspc: Fmspc([number; 6]), ..setup.vendor.platform() };
        assert!(setup.supply.at_hand(&platform, &setup.floor, at(NOW)).is_err());
    }
    assert!(Arc::ptr_eq(&kept, &setup.at_hand().unwrap()));
    setup.check_fetches(1);
}

// rules: ATT-11.3, R18
#[tokio::test]
async fn waiting_is_limited_in_time_and_goes_on_without_those_who_left() {
    let setup = Setup::with(|_, mut options| {
        options.services[0].timeout = 4 * MAX_WAIT;
        options
    })
    .await;
    setup.service.reply(Reply::Silence);
    let (supply, request, floor) = (setup.supply.clone(), setup.request(), setup.floor.clone());
    let waiting = tokio::spawn(async move { supply.obtain(&request, &floor, at(NOW)).await });
    setup.service.asked(4).await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, SupplyError::Waited { limit: MAX_WAIT, .. }) && error.is_unavailable(), "{error}");
    assert!(began.elapsed() <= MAX_WAIT + Duration::from_secs(1));
    // The next one joins the same flight, and learns how it ends.
    let (supply, request, floor) = (setup.supply.clone(), setup.request(), setup.floor.clone());
    let joined = tokio::spawn(async move { supply.obtain(&request, &floor, at(NOW)).await });
    let error = joined.await.unwrap().unwrap_err();
    assert!(matches!(error, SupplyError::Waited { .. }), "{error}");
    setup.check_fetches(1);
}

// rules: ATT-11.3
#[tokio::test]
async fn the_number_of_those_who_wait_is_limited() {
    let setup = Setup::new().await;
    setup.service.reply(Reply::Silence);
    let request = setup.request();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..=MAX_WAITING_PER_PLATFORM {
        let (supply, request, floor) = (setup.supply.clone(), request.clone(), setup.floor.clone());
        waiting.spawn(async move { supply.obtain(&request, &floor, at(NOW)).await });
    }
    let first = waiting.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(matches!(first, SupplyError::Busy { .. }) && first.is_unavailable(), "{first}");
    // Who leaves makes room.
    waiting.shutdown().await;
    let again = tokio::time::timeout(Duration::from_millis(50), setup.obtain()).await;
    assert!(again.is_err(), "it waits: {again:?}");
}

// rules: ATT-11.3
#[tokio::test]
async fn waiting_for_one_platform_delays_no_other_one() {
    let (slow, fast) = (Vendor::new(PckCa::Platform), Vendor::new(PckCa::Processor));
    let service = Service::start(Reply::Collateral(fast.good())).await;
    service.reply_to("pckcrl?ca=platform", Reply::Silence);
    let roots = [("slow", slow.root.root_der()), ("fast", fast.root.root_der())];
    let roots = marblerun_attestation::TrustRoots::software(roots).unwrap();
    let services = vec![service.options()];
    let supply = Supply::new(roots, SupplyOptions { services, ..SupplyOptions::default() }).unwrap();
    let floor = CollateralFloor::default();
    let request = supply.request(slow.quote(), at(NOW)).unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..MAX_WAITING_PER_PLATFORM + 10 {
        let (supply, request, floor) = (supply.clone(), request.clone(), floor.clone());
        waiting.spawn(async move { supply.obtain(&request, &floor, at(NOW)).await });
    }
    service.asked(4).await;
    let request = supply.request(fast.quote(), at(NOW)).unwrap();
    supply.obtain(&request, &floor, at(NOW)).await.unwrap();
    supply.at_hand(&fast.platform(), &floor, at(NOW)).unwrap();
    assert!(matches!(supply.at_hand(&slow.platform(), &floor, at(NOW)), Err(SupplyError::Wanted { .. })));
    const { assert!(MAX_FLIGHTS > 2) };
}

// rules: ATT-11.1
#[tokio::test]
async fn what_was_fetched_survives_a_restart_without_network() {
    let directory = tempfile::tempdir().unwrap();
    let cache = |_: &Vendor, options| SupplyOptions { cache: Some(directory.path().to_owned()), ..options };
    let mut setup = Setup::with(cache).await;
    let fetched = setup.get().await.unwrap();
    let services = vec![setup.service.options()];
    let options = SupplyOptions { cache: Some(directory.path().to_owned()), services, ..SupplyOptions::default() };
    let restart = || Supply::new(setup.vendor.roots(), options.clone()).unwrap();
    setup.supply = restart();
    let kept = setup.at_hand().unwrap();
    assert_eq!(kept.text, fetched.text);
    let Origin::Cache(path) = &kept.origin else { panic!("{:?}", kept.origin) };
    assert!(setup.supply.is_refresh_due(&setup.vendor.platform()), "nobody knows how long it lay there");

    // What the host makes of it is noticed.
    let good = String::from_utf8(kept.text.clone()).unwrap();
    for changed in [good.replace("UpToDate", "OutOfDate"), String::new(), Vendor::new(PckCa::Platform).good()] {
        std::fs::write(path, changed).unwrap();
        setup.supply = restart();
        assert!(matches!(setup.at_hand(), Err(SupplyError::Wanted { .. })));
    }
    std::fs::write(path, good).unwrap();
    setup.supply = restart();
    setup.floor = floor(2);
    assert!(setup.at_hand().is_err(), "an older one that the host kept");
}

#[tokio::test]
async fn collateral_is_refreshed_behind_the_back_of_its_users() {
    let mut setup = Setup::new().await;
    let platform = setup.vendor.platform();
    let old = setup.get().await.unwrap();
    assert!(!setup.supply.is_refresh_due(&platform));
    pass(MAX_REFRESH.as_secs()).await;
    setup.now += MAX_REFRESH.as_secs();
    assert!(setup.supply.is_refresh_due(&platform));

    // A service that fails takes nothing away, and is not asked at every use.
    setup.service.reply(Reply::status("500 x"));
    let asked = setup.service.requests().len();
    setup.supply.refresh(&setup.request(), &setup.floor, at(setup.now));
    setup.obtain().await.unwrap_err();
    assert!(setup.service.requests().len() > asked);
    assert!(Arc::ptr_eq(&old, &setup.at_hand().unwrap()));
    assert!(!setup.supply.is_refresh_due(&platform));

    pass(60).await;
    assert!(setup.supply.is_refresh_due(&platform));
    setup.service.reply(Reply::Collateral(setup.vendor.dated(NOW + DAY, NOW + 31 * DAY)));
    setup.supply.refresh(&setup.request(), &setup.floor, at(setup.now));
    assert!(Arc::ptr_eq(&old, &setup.at_hand().unwrap()), "the old one is used meanwhile");
    setup.obtain().await.unwrap();
    assert!(!Arc::ptr_eq(&old, &setup.at_hand().unwrap()));
    assert!(!setup.supply.is_refresh_due(&platform));
}

#[tokio::test]
async fn half_of_its_life_is_enough_for_short_lived_collateral() {
    let setup = Setup::new().await;
    setup.service.reply(Reply::Collateral(setup.vendor.dated(NOW, NOW + 1000)));
    setup.get().await.unwrap();
    pass(370).await;
    assert!(!setup.supply.is_refresh_due(&setup.vendor.platform()));
    pass(130).await;
    assert!(setup.supply.is_refresh_due(&setup.vendor.platform()));
}

// rules: ATT-11.2
#[tokio::test]
async fn collateral_past_its_next_update_counts_only_where_that_is_allowed_and_nothing_newer_is_found() {
    let aged = |days: u64| {
        move |_: &Vendor, options: SupplyOptions| SupplyOptions {
            dangerous_max_age: Duration::from_secs(days * DAY),
            ..options
        }
    };
    let old = |setup: &Setup| Reply::Collateral(setup.vendor.dated(NOW - 40 * DAY, NOW - 5 * DAY));
    for days in [0, 4] {
        let setup = Setup::with(aged(days)).await;
        setup.service.reply(old(&setup));
        let error = setup.get().await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::ExpiredCollateral, "{error}");
    }
    let setup = Setup::with(aged(6)).await;
    setup.service.reply(old(&setup));
    assert!(setup.get().await.unwrap().trusted.is_stale(at(NOW)));
    setup.at_hand().unwrap();
    setup.check_fetches(1);
    // Something newer may be there by now.
    pass(60 * 60).await;
    assert!(matches!(setup.at_hand(), Err(SupplyError::Wanted { .. })));
    setup.service.reply(Reply::status("500 x"));
    setup.obtain().await.unwrap_err();
    assert!(setup.at_hand().unwrap().trusted.is_stale(at(NOW)));
    setup.service.reply(Reply::Collateral(setup.vendor.good()));
    pass(600).await;
    assert!(!setup.get().await.unwrap().trusted.is_stale(at(NOW)));
}

#[tokio::test]
async fn a_fresh_answer_of_a_later_service_comes_before_a_stale_one() {
    let vendor = Vendor::new(PckCa::Platform);
    let stale = Service::start(Reply::Collateral(vendor.dated(NOW - 40 * DAY, NOW - 5 * DAY))).await;
    let fresh = Service::start(Reply::Collateral(vendor.good())).await;
    let services: Vec<ClientOptions> = vec![stale.options(), fresh.options()];
    let dangerous_max_age = Duration::from_secs(30 * DAY);
    let options = SupplyOptions { services, dangerous_max_age, ..SupplyOptions::default() };
    let supply = Supply::new(vendor.roots(), options).unwrap();
    let request = supply.request(vendor.quote(), at(NOW)).unwrap();
    supply.obtain(&request, &CollateralFloor::default(), at(NOW)).await.unwrap();
    let kept = supply.at_hand(&vendor.platform(), &CollateralFloor::default(), at(NOW)).unwrap();
    assert_eq!(kept.origin, Origin::Service(fresh.url.clone()));
}

// rules: ATT-11.4
#[tokio::test]
async fn collateral_that_was_issued_before_what_is_at_hand_displaces_it_nowhere() {
    let dates = |issued, days| Some(Dates { issued: at(issued), next_update: at(issued + days * DAY) });
    let issued = |number, tcb_info, qe_identity, root_crl, pck_crl| CollateralOptions {
        evaluation_number: number,
        tcb_info_dates: dates(tcb_info, 30),
        qe_identity_dates: dates(qe_identity, 30),
        root_crl_dates: dates(root_crl, 300),
        pck_crl_dates: dates(pck_crl, 30),
        ..CollateralOptions::default()
    };
    let (before, then) = (NOW - 2 * DAY, NOW - DAY);
    for older in [
        issued(5, before, then, then, then),
        issued(5, then, before, then, then),
        issued(5, then, then, before, then),
        issued(5, then, then, then, before),
        issued(4, then, then, then, then),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let cache = |_: &Vendor, options| SupplyOptions { cache: Some(directory.path().to_owned()), ..options };
        let mut setup = Setup::with(cache).await;
        setup.service.reply(Reply::Collateral(setup.vendor.collateral(&issued(5, then, then, then, then))));
        let kept = setup.get().await.unwrap();
        setup.service.reply(Reply::Collateral(setup.vendor.collateral(&older)));
        let due = MAX_REFRESH.as_secs();
        pass(due).await;
        setup.now += due;
        let error = setup.obtain().await.unwrap_err();
        assert!(
            matches!(&error, SupplyError::Failing { last, .. } if matches!(**last, ServiceFailure::Older { .. })),
            "{error:?}"
        );
        assert_eq!(error.class(), ErrorClass::CollateralRollback);
        assert!(error.hint().is_some());
        assert!(Arc::ptr_eq(&kept, &setup.at_hand().unwrap()));
        let path = directory.path().join("dcap").join(file_name(&setup.vendor.platform()));
        assert!(std::fs::read(path).unwrap() == kept.text);
        // Where ours counts no longer, older one that is valid is better than nothing.
        setup.floor = CollateralFloor::default();
        setup.now = then + 30 * DAY + 1;
        let valid = issued(4, then, then, then, then);
        let valid = CollateralOptions {
            tcb_info_dates: dates(then, 60),
            qe_identity_dates: dates(then, 60),
            pck_crl_dates: dates(then, 60),
            ..valid
        };
        setup.service.reply(Reply::Collateral(setup.vendor.collateral(&valid)));
        pass(600).await;
        assert!(!Arc::ptr_eq(&kept, &setup.get().await.unwrap()));
    }
}

#[tokio::test]
async fn a_service_that_lags_behind_is_a_reason_to_ask_the_next_one() {
    let vendor = Vendor::new(PckCa::Platform);
    let first = Service::start(Reply::Collateral(vendor.dated(NOW, NOW + 30 * DAY))).await;
    let second = Service::start(Reply::Collateral(vendor.dated(NOW + DAY, NOW + 31 * DAY))).await;
    let services = vec![first.options(), second.options()];
    let supply = Supply::new(vendor.roots(), SupplyOptions { services, ..SupplyOptions::default() }).unwrap();
    let (floor, now) = (CollateralFloor::default(), NOW + DAY);
    let request = supply.request(vendor.quote(), at(now)).unwrap();
    supply.obtain(&request, &floor, at(now)).await.unwrap();
    first.reply(Reply::Collateral(vendor.dated(NOW - DAY, NOW + 29 * DAY)));
    pass(MAX_REFRESH.as_secs()).await;
    supply.obtain(&request, &floor, at(now)).await.unwrap();
    let kept = supply.at_hand(&vendor.platform(), &floor, at(now)).unwrap();
    assert_eq!(kept.origin, Origin::Service(second.url.clone()));
}

#[tokio::test]
async fn collateral_that_ends_soon_is_asked_for_again_when_it_ends_although_failures_were_many() {
    let mut setup = Setup::new().await;
    setup.service.reply(Reply::Collateral(setup.vendor.dated(NOW, NOW + 1000)));
    setup.get().await.unwrap();
    setup.service.reply(Reply::status("500 x"));
    pass(980).await;
    setup.now += 980;
    setup.obtain().await.unwrap_err();
    setup.service.reply(Reply::Collateral(setup.vendor.good()));
    pass(21).await;
    setup.now += 21;
    setup.get().await.unwrap();
}

// rules: ATT-11.2
#[tokio::test]
async fn what_is_past_its_date_can_be_shown_and_is_used_by_nobody() {
    let past = |vendor: &Vendor| vendor.dated(NOW - 40 * DAY, NOW - 5 * DAY);
    let from_bundle = tempfile::tempdir().unwrap();
    let from_cache = tempfile::tempdir().unwrap();
    for directory in [&from_bundle, &from_cache] {
        let setup = Setup::with(|vendor, _| {
            write_bundle(directory.path(), vendor, &past(vendor));
            let path = Some(directory.path().to_owned());
            let is_cache = std::ptr::eq(directory, &from_cache);
            let bundle = path.clone().filter(|_| !is_cache);
            SupplyOptions { bundle, cache: path.filter(|_| is_cache), ..SupplyOptions::default() }
        })
        .await;
        let platform = setup.vendor.platform();
        setup.at_hand().unwrap_err();
        let written = std::fs::read(directory.path().join("dcap").join(file_name(&platform))).unwrap();
        assert!(setup.supply.out_of_date(&platform, at(NOW)).unwrap() == written);
        // What is valid, or what nobody vouches for, is not shown.
        for other in [setup.vendor.good(), Vendor::new(PckCa::Platform).good(), "{}".to_owned()] {
            write_bundle(directory.path(), &setup.vendor, &other);
            assert_eq!(setup.supply.out_of_date(&platform, at(NOW)), None);
        }
    }

    let mut setup = Setup::new().await;
    let kept = setup.get().await.unwrap();
    let platform = setup.vendor.platform();
    assert_eq!(setup.supply.out_of_date(&platform, at(setup.now)), None);
    setup.now += 31 * DAY;
    setup.at_hand().unwrap_err();
    assert_eq!(setup.supply.out_of_date(&platform, at(setup.now)).unwrap(), kept.text);
}

// rules: ATT-11.3
#[tokio::test]
async fn those_who_wait_get_their_answer_although_the_first_one_left() {
    let vendor = Vendor::new(PckCa::Platform);
    let slow = Service::start(Reply::Silence).await;
    let good = Service::start(Reply::Collateral(vendor.good())).await;
    let services = vec![ClientOptions { timeout: Duration::from_millis(300), ..slow.options() }, good.options()];
    let supply = Supply::new(vendor.roots(), SupplyOptions { services, ..SupplyOptions::default() }).unwrap();
    let floor = CollateralFloor::default();
    let request = supply.request(vendor.quote(), at(NOW)).unwrap();
    let obtain = || {
        let (supply, request, floor) = (supply.clone(), request.clone(), floor.clone());
        tokio::spawn(async move { supply.obtain(&request, &floor, at(NOW)).await })
    };
    let first = obtain();
    slow.asked(4).await;
    let second = obtain();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    second.await.unwrap().unwrap();
    supply.at_hand(&vendor.platform(), &floor, at(NOW)).unwrap();
    assert_eq!((slow.requests().len(), good.requests().len()), (4, 4));
}

// rules: SAFE-16
#[tokio::test]
async fn figures_tell_successes_failures_and_until_when_collateral_lasts() {
    let mut setup = Setup::new().await;
    assert_eq!(setup.supply.figures(), Figures::default());
    setup.service.reply(Reply::status("500 x"));
    setup.get().await.unwrap_err();
    let failing = Figures { failed: 1, failing: 1, ..Figures::default() };
    assert_eq!(setup.supply.figures(), failing);
    setup.service.reply(Reply::Collateral(setup.vendor.good()));
    pass(6).await;
    setup.now += 6;
    let kept = setup.get().await.unwrap();
    let figures = setup.supply.figures();
    assert_eq!((figures.fetched, figures.failed, figures.failing), (1, 1, 0));
    assert_eq!(figures.last_success, Some(at(setup.now)));
    assert_eq!(figures.expires, [(setup.vendor.platform(), kept.trusted.expires())].into());

    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::with(|vendor, _| {
        write_bundle(directory.path(), vendor, &vendor.good());
        SupplyOptions { bundle: Some(directory.path().to_owned()), ..SupplyOptions::default() }
    })
    .await;
    let kept = setup.at_hand().unwrap();
    assert_eq!(setup.supply.figures().expires, [(setup.vendor.platform(), kept.trusted.expires())].into());
}
