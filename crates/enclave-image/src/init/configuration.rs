//! The text of `Occlum.json`.

use crate::prepare::json_text::quoted;
use crate::sizing::Sizes;

/// What goes into the file, beside the sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configuration<'a> {
    pub(crate) entry_point: &'a str,
    pub(crate) default_environment: &'a [String],
    pub(crate) untrusted_names: &'a [String],
    pub(crate) product_id: u16,
    pub(crate) version_number: u16,
    pub(crate) is_debuggable: bool,
    /// What the programs write survives the instance's end.
    pub(crate) is_persistent: bool,
}

/// Every member that `occlum build` requires, in the order of its template.
pub(crate) fn text(configuration: &Configuration<'_>, sizes: &Sizes) -> String {
    let list = |items: &[String]| {
        let items: Vec<_> = items.iter().map(|item| format!("\n      {}", quoted(item))).collect();
        if items.is_empty() { "[]".to_owned() } else { format!("[{}\n    ]", items.join(",")) }
    };
    let upper = if configuration.is_persistent {
        ""
    } else {
        ",\n            \"options\": {\n              \"temporary\": true\n            }"
    };
    format!(
        r#"{{
  "resource_limits": {{
    "max_num_of_threads": {threads},
    "kernel_space_heap_size": "{kernel_heap}",
    "kernel_space_stack_size": "{kernel_stack}",
    "user_space_size": "{user_space}"
  }},
  "process": {{
    "default_stack_size": "{stack}",
    "default_heap_size": "{heap}",
    "default_mmap_size": "{mmap}"
  }},
  "entry_points": [
    {entry_point}
  ],
  "env": {{
    "default": {default},
    "untrusted": {untrusted}
  }},
  "metadata": {{
    "product_id": {product_id},
    "version_number": {version_number},
    "debuggable": {debuggable},
    "enable_kss": false,
    "family_id": {{
      "high": "0x0",
      "low": "0x0"
    }},
    "ext_prod_id": {{
      "high": "0x0",
      "low": "0x0"
    }}
  }},
  "feature": {{
    "amx": 0,
    "pkru": 0,
    "io_uring": 0,
    "enable_edmm": false,
    "enable_posix_shm": false
  }},
  "mount": [
    {{
      "target": "/",
      "type": "unionfs",
      "options": {{
        "layers": [
          {{
            "target": "/",
            "type": "sefs",
            "source": "./build/mount/__ROOT",
            "options": {{
              "MAC": ""
            }}
          }},
          {{
            "target": "/",
            "type": "sefs",
            "source": "./run/mount/__ROOT"{upper}
          }}
        ]
      }}
    }}
  ]
}}
"#,
        threads = sizes.threads.text(),
        kernel_heap = sizes.kernel_heap.text(),
        kernel_stack = sizes.kernel_stack.text(),
        user_space = sizes.user_space.text(),
        stack = sizes.stack.text(),
        heap = sizes.heap.text(),
        mmap = sizes.mmap.text(),
        entry_point = quoted(configuration.entry_point),
        default = list(configuration.default_environment),
        untrusted = list(configuration.untrusted_names),
        product_id = configuration.product_id,
        version_number = configuration.version_number,
        debuggable = configuration.is_debuggable,
    )
}
