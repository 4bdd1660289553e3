//! The rules of this crate's layers: where their paths are not PyTorch's names.

use super::rules::{Rule, Rules};

impl Rules {
    /// The rules for state dicts of PyTorch's own layers.
    ///
    /// Attention's `query`, `key` and `value` are one `in_proj_weight` there (or `q_proj_weight` … where keys and
    /// values have other sizes than queries) and `output` is `out_proj`. A recurrent network's
    /// `layers.0.forward.weight_ih` is `weight_ih_l0`, and `backward` is `…_reverse`. The parts of an encoder's and a
    /// decoder's block are `self_attn`, `multihead_attn`, `linear1`, `linear2` and `norm1` to `norm3`.
    ///
    /// ```
    /// use chainrule_nn::interchange::Rules;
    /// let rules = Rules::pytorch().rename("body.*.**", "features.*.**");
    /// ```
    pub fn pytorch() -> Rules {
        let attention = [
            Rule::joined(["**.query.weight", "**.key.weight", "**.value.weight"], 0, "**.in_proj_weight"),
            Rule::joined(["**.query.bias", "**.key.bias", "**.value.bias"], 0, "**.in_proj_bias"),
            Rule::same("**.query.weight", "**.q_proj_weight").beside("**.key.weight"),
            Rule::same("**.key.weight", "**.k_proj_weight").beside("**.query.weight"),
            Rule::same("**.value.weight", "**.v_proj_weight").beside("**.query.weight"),
            Rule::same("**.output.weight", "**.out_proj.weight").beside("**.key.weight"),
            Rule::same("**.output.bias", "**.out_proj.bias").beside("**.key.weight"),
        ];
        let recurrent = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].into_iter().flat_map(|name| {
            let row = |direction: &str, end: &str| {
                Rule::same(&format!("**.layers.*.{direction}.{name}"), &format!("**.{name}_l*{end}"))
            };
            [row("forward", ""), row("backward", "_reverse")]
        });
        // Files from before PyTorch 0.4.1 have no count of batches.
        let rules = Rules::new(attention.into_iter().chain(recurrent)).optional("**.num_batches_tracked");
        let encoder = "**.feed_forward.up.weight";
        let decoder = "**.cross_attention.query.weight";
        [
            ("cross_attention", "multihead_attn", decoder),
            ("cross_attention_norm", "norm2", decoder),
            ("feed_forward_norm", "norm3", decoder),
            ("feed_forward_norm", "norm2", encoder),
            ("attention", "self_attn", encoder),
            ("attention_norm", "norm1", encoder),
            ("feed_forward.up", "linear1", encoder),
            ("feed_forward.down", "linear2", encoder),
        ]
        .into_iter()
        .fold(rules, |rules, (ours, theirs, beside)| {
            rules.part(&format!("**.{ours}.**"), &format!("**.{theirs}.**"), beside)
        })
    }
}
