defmodule Emily.Generation.Result do
  @moduledoc """
  What `Emily.Generation.generate/3` gives.

    * `:tokens` - the tokens that were generated, without the end token and the stop sequence: a list, or one for each
      row of a batch
    * `:reason` - why that is all, or a list of that for a batch: `:end_token`, `:stop_sequence`, `:stop_function` or
      `:max_tokens`
    * `:log_probabilities` - for each token the logarithm of the probability that the model gave it, if that was asked
      for; else `nil`
    * `:session` - all that was read, an `Emily.Generation.Session` to go on with
    * `:prompt_tokens` - how many tokens the prompts have, and `:reused_tokens` how many of them came with a session
    * `:generated_tokens` - how many tokens were generated in all rows
    * `:drafted_tokens` - how many tokens a draft model proposed, and `:accepted_tokens` how many of them were accepted
    * `:prefill_seconds` and `:decode_seconds` - how long it took to read the prompts and to generate
    * `:prefill_tokens_per_second` and `:decode_tokens_per_second` - how many that is in a second; `0.0` where there was none
  """

  @enforce_keys [
    :tokens,
    :reason,
    :log_probabilities,
    :session,
    :prompt_tokens,
    :reused_tokens,
    :generated_tokens,
    :drafted_tokens,
    :accepted_tokens,
    :prefill_seconds,
    :decode_seconds,
    :prefill_tokens_per_second,
    :decode_tokens_per_second
  ]
  defstruct @enforce_keys

  @type reason :: Emily.Generation.Stop.reason()

  @type t :: %__MODULE__{
          tokens: [non_neg_integer()] | [[non_neg_integer()]],
          reason: reason() | [reason()],
          log_probabilities: [float()] | [[float()]] | nil,
          session: Emily.Generation.Session.t(),
          prompt_tokens: pos_integer(),
          reused_tokens: non_neg_integer(),
          generated_tokens: non_neg_integer(),
          drafted_tokens: non_neg_integer(),
          accepted_tokens: non_neg_integer(),
          prefill_seconds: float(),
          decode_seconds: float(),
          prefill_tokens_per_second: float(),
          decode_tokens_per_second: float()
        }
end
