//! What is asked for: the paths and parameters of the vendor's provisioning service, version 4.

use hyper::{StatusCode, Uri};

use crate::pki::PckCa;
use crate::service::misbehaviour::{CrlForm, Item, Scope};

/// Path of everything that the service serves for SGX.
pub(super) const BASE: &str = "/sgx/certification/v4/";
/// Where the vendor keeps the root's CRL, apart from the rest.
const ROOT_CRL: &str = "/IntelSGXRootCA.der";
/// Where redirections lead: before the path.
pub(super) const ELSEWHERE: &str = "/elsewhere";

/// A request that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    TcbInfo { fmspc: [u8; 6], number: Option<u32> },
    QeIdentity { number: Option<u32> },
    PckCrl { ca: PckCa, form: CrlForm },
    RootCrl { form: CrlForm },
    EvaluationNumbers,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) StatusCode);

const BAD: Refused = Refused(StatusCode::BAD_REQUEST);

impl Asked {
    /// Reads path and query.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Refused> {
        let path = uri.path().strip_prefix(ELSEWHERE).unwrap_or(uri.path());
        let mut query = Query::parse(uri.query().unwrap_or_default())?;
        let asked = if path == ROOT_CRL {
            Self::RootCrl { form: CrlForm::Der }
        } else {
            match path.strip_prefix(BASE).ok_or(Refused(StatusCode::NOT_FOUND))? {
                "tcb" => {
                    let mut fmspc = [0; 6];
                    let text = query.take("fmspc").ok_or(BAD)?;
                    hex::decode_to_slice(text, &mut fmspc).map_err(|_| BAD)?;
                    Self::TcbInfo { fmspc, number: query.take_number()? }
                }
                "qe/identity" => Self::QeIdentity { number: query.take_number()? },
                "pckcrl" => {
                    let ca = match query.take("ca") {
                        Some("platform") => PckCa::Platform,
                        Some("processor") => PckCa::Processor,
                        _ => return Err(BAD),
                    };
                    let form = match query.take("encoding") {
                        None | Some("pem") => CrlForm::Pem,
                        Some("der") => CrlForm::Der,
                        Some(_) => return Err(BAD),
                    };
                    Self::PckCrl { ca, form }
                }
                "rootcacrl" => Self::RootCrl { form: CrlForm::Hex },
                "tcbevaluationdatanumbers" => Self::EvaluationNumbers,
                _ => return Err(Refused(StatusCode::NOT_FOUND)),
            }
        };
        query.end()?;
        Ok(asked)
    }

    /// The evaluation data number that is asked for.
    pub(super) fn number(&self) -> Option<u32> {
        match self {
            Self::TcbInfo { number, .. } | Self::QeIdentity { number } => *number,
            _ => None,
        }
    }

    /// True if a rule with this scope is for the request.
    pub(super) fn is_in(&self, scope: Option<Scope>) -> bool {
        match scope {
            None => true,
            Some(Scope::Fmspc(of)) => matches!(self, Self::TcbInfo { fmspc, .. } if *fmspc == of),
            Some(Scope::Item(item)) => match self {
                Self::TcbInfo { .. } => item == Item::TcbInfo,
                Self::QeIdentity { .. } => item == Item::QeIdentity,
                Self::PckCrl { .. } => item == Item::PckCrl,
                Self::RootCrl { .. } => item == Item::RootCrl,
                Self::EvaluationNumbers => false,
            },
        }
    }
}

/// The parameters of a request; each may be given once.
struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Result<Self, Refused> {
        let mut parameters: Vec<(&str, &str)> = Vec::new();
        for parameter in text.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or(BAD)?;
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(BAD);
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let place = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(place).1)
    }

    /// `tcbEvaluationDataNumber`, which excludes `update`.
    fn take_number(&mut self) -> Result<Option<u32>, Refused> {
        match (self.take("update"), self.take("tcbEvaluationDataNumber")) {
            (None | Some("standard" | "early"), None) => Ok(None),
            (None, Some(number)) => number.parse().map(Some).map_err(|_| BAD),
            _ => Err(BAD),
        }
    }

    /// A parameter that nobody took is one that the service does not know.
    fn end(self) -> Result<(), Refused> {
        if self.0.is_empty() { Ok(()) } else { Err(BAD) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> Result<Asked, u16> {
        Asked::parse(&uri.parse().unwrap()).map_err(|refused| refused.0.as_u16())
    }

    #[test]
    fn paths_and_parameters_are_those_of_the_vendor() {
        let fmspc = *b"\xFFSWTEE";
        let tcb = "/sgx/certification/v4/tcb?fmspc=ff5357544545";
        assert_eq!(parse(tcb), Ok(Asked::TcbInfo { fmspc, number: None }));
        assert_eq!(parse(&format!("{tcb}&update=early")), Ok(Asked::TcbInfo { fmspc, number: None }));
        let numbered = format!("{tcb}&tcbEvaluationDataNumber=7");
        assert_eq!(parse(&numbered), Ok(Asked::TcbInfo { fmspc, number: Some(7) }));
        assert_eq!(parse("/sgx/certification/v4/qe/identity"), Ok(Asked::QeIdentity { number: None }));
        assert_eq!(
            parse("/sgx/certification/v4/pckcrl?ca=platform&encoding=der"),
            Ok(Asked::PckCrl { ca: PckCa::Platform, form: CrlForm::Der })
        );
        assert_eq!(
            parse("/sgx/certification/v4/pckcrl?ca=processor"),
            Ok(Asked::PckCrl { ca: PckCa::Processor, form: CrlForm::Pem })
        );
        assert_eq!(parse("/sgx/certification/v4/rootcacrl"), Ok(Asked::RootCrl { form: CrlForm::Hex }));
        assert_eq!(parse("/IntelSGXRootCA.der"), Ok(Asked::RootCrl { form: CrlForm::Der }));
        assert_eq!(parse("/elsewhere/IntelSGXRootCA.der"), Ok(Asked::RootCrl { form: CrlForm::Der }));
    }

    #[test]
    fn wrong_paths_are_not_found_and_wrong_parameters_are_bad_requests() {
        for uri in ["/", "/sgx/certification/v3/tcb?fmspc=ff5357544545", "/tdx/certification/v4/qe/identity"] {
            assert_eq!(parse(uri), Err(404), "{uri}");
        }
        for uri in [
            "/sgx/certification/v4/tcb",
            "/sgx/certification/v4/tcb?fmspc=ff53575445",
            "/sgx/certification/v4/tcb?fmspc=ff53575445zz",
            "/sgx/certification/v4/tcb?fmspc=ff5357544545&fmspc=ff5357544545",
            "/sgx/certification/v4/tcb?fmspc=ff5357544545&update=late",
            "/sgx/certification/v4/tcb?fmspc=ff5357544545&update=early&tcbEvaluationDataNumber=1",
            "/sgx/certification/v4/tcb?fmspc=ff5357544545&colour=blue",
            "/sgx/certification/v4/pckcrl",
            "/sgx/certification/v4/pckcrl?ca=root",
            "/sgx/certification/v4/pckcrl?ca=platform&encoding=hex",
            "/sgx/certification/v4/rootcacrl?encoding",
        ] {
            assert_eq!(parse(uri), Err(400), "{uri}");
        }
    }
}
