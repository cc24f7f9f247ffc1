//! Sizes of an existing instance that would not hold premain and program together.

use super::Request;
use super::files::Found;
use crate::image_tree::ImageTree;
use crate::init::{InitError, facts};
use crate::occlum_json::{EDMM_THREADS, EDMM_USER_SPACE, OcclumJson};
use crate::sizing::{self, Figure, Inputs, Loaded};

/// The figures that must rise. Sizes of the program's own need are taken as they are: they were right without us.
pub(super) fn raise(
    request: &Request<'_>,
    config: &OcclumJson,
    found: &Found,
    tree: &ImageTree,
) -> Result<Vec<Figure>, InitError> {
    let program = match request.program {
        Some(path) => facts::read(tree, path)?.loaded,
        None => Loaded::default(),
    };
    let sizes = sizing::compute(&Inputs {
        premain: found.premain,
        program,
        arguments: request.program.map(str::to_owned).into_iter().collect(),
        default_environment: config.env.default.clone(),
        untrusted_names: config.env.untrusted.clone(),
        manifest_environment_bytes: request.manifest_environment_bytes,
        stack: Some(config.process.default_stack_size.0),
        heap: Some(config.process.default_heap_size.0),
        mmap: Some(0),
        threads: 1,
    });
    let limits = &config.resource_limits;
    // Without EDMM the maximum takes the place of the size, with it the size may grow to it.
    let (user_space, has_user_space) = match limits.user_space_max_size {
        Some(max) => (Figure { member: "resource_limits.user_space_max_size", ..sizes.user_space.clone() }, max),
        None => (sizes.user_space.clone(), limits.user_space_size),
    };
    let (mut has_threads, mut has_user_space) = (u64::from(limits.max_num_of_threads), has_user_space.0);
    if config.feature.enable_edmm {
        has_threads = has_threads.max(EDMM_THREADS);
        if limits.user_space_max_size.is_some() {
            has_user_space = has_user_space.max(EDMM_USER_SPACE);
        }
    }
    let has = [
        (&sizes.threads, has_threads),
        (&user_space, has_user_space),
        (&sizes.stack, config.process.default_stack_size.0),
    ];
    Ok(has.into_iter().filter(|(figure, has)| figure.need > *has).map(|(figure, _)| figure.clone()).collect())
}
