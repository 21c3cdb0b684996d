defmodule Emily.Generation.Request do
  @moduledoc false
  # What one call asks for, checked before anything is computed.

  alias Emily.Generation
  alias Emily.Generation.{Prompt, Sampler, Session, Stop}

  @enforce_keys [:prompt, :session, :stop, :most, :on_token, :sampler, :seed, :scored?, :draft]
  defstruct @enforce_keys

  @typedoc "`draft` is a model with the number of tokens that it proposes at a time."
  @type t :: %__MODULE__{
          prompt: Prompt.t(),
          session: Session.t() | nil,
          stop: Stop.t(),
          most: pos_integer() | :infinity,
          on_token: (term() -> term()) | nil,
          sampler: Sampler.t(),
          seed: non_neg_integer() | nil,
          scored?: boolean(),
          draft: {Generation.t(), pos_integer()} | nil
        }

  @own [
    max_tokens: 256,
    end_tokens: [],
    stop_sequences: [],
    stop_when: nil,
    session: nil,
    on_token: nil,
    log_probabilities: false,
    draft: nil,
    draft_tokens: 4,
    seed: nil
  ]

  # A text is the likeliest one unless one of these says otherwise.
  @choosing [:temperature, :top_k, :top_p, :min_p]
  @sampling @choosing ++ [:repetition_penalty, :repetition_window, :logit_bias, :order]

  @doc "What `generate/3` is asked for, or `stream/3`, which takes none of `without`."
  @spec new(Generation.t(), term(), term(), [atom()]) :: t()
  def new(generation, prompt, options, without \\ []) do
    known = Keyword.drop(@own, without) ++ Enum.map(@sampling, &{&1, nil})
    options!(options, known)
    {sampling, options} = Keyword.split(options, @sampling)
    options = Map.merge(Map.new(@own), Map.new(options))
    for {name, value} <- options, do: check!(name, value)
    prompt = Prompt.new(prompt, generation.vocabulary)

    %__MODULE__{
      prompt: prompt,
      session: options.session,
      stop: Stop.new(options),
      most: options.max_tokens,
      on_token: options.on_token,
      sampler: sampler(sampling, generation.vocabulary),
      seed: options.seed,
      scored?: options.log_probabilities,
      draft: draft(options, generation, prompt)
    }
  end

  @doc "The options of a prompt that is read and not continued."
  @spec reading(Generation.t(), term(), term()) :: {Prompt.t(), Session.t() | nil}
  def reading(generation, prompt, options) do
    options = options!(options, Keyword.take(@own, [:session]))
    check!(:session, options.session)
    {Prompt.new(prompt, generation.vocabulary), options.session}
  end

  defp sampler(options, vocabulary) do
    greedy? = Enum.all?(@choosing, &(options[&1] == nil))
    sampler = Sampler.new(if greedy?, do: Keyword.put(options, :temperature, 0), else: options)

    for {token, _bias} <- sampler.logit_bias, token >= vocabulary do
      refuse("tokens of :logit_bias from 0 to #{vocabulary - 1}", token)
    end

    sampler
  end

  defp draft(%{draft: nil}, _generation, _prompt), do: nil

  defp draft(%{draft: draft, draft_tokens: count}, generation, prompt) do
    if draft.vocabulary != generation.vocabulary do
      refuse(
        "a :draft with the model's vocabulary of #{generation.vocabulary}",
        draft.vocabulary
      )
    end

    if length(prompt.rows) > 1, do: refuse("one prompt for a :draft", length(prompt.rows))

    for {what, %{store: %{trim: nil}}} <- [{"model", generation}, {"draft", draft}] do
      raise ArgumentError,
            "expected the #{what}'s cache to have :trim, for a :draft, got: one without"
    end

    {draft, count}
  end

  @doc "The options as a map with all of the known ones."
  @spec options!(term(), keyword()) :: map()
  def options!(options, known) do
    case Keyword.keyword?(options) && Keyword.validate(options, known) do
      {:ok, options} ->
        Map.new(options)

      {:error, unknown} ->
        names = known |> Keyword.keys() |> Enum.map_join(", ", &inspect/1)
        refuse("options among #{names}", unknown)

      false ->
        refuse("a keyword list of options", options)
    end
  end

  defp check!(name, value) do
    if not valid?(name, value), do: refuse("#{inspect(name)} to be #{wanted(name)}", value)
  end

  defp valid?(:max_tokens, :infinity), do: true
  defp valid?(:max_tokens, count), do: is_integer(count) and count > 0
  defp valid?(:end_tokens, tokens) when is_list(tokens), do: tokens?(tokens)
  defp valid?(:end_tokens, token), do: tokens?([token])
  defp valid?(:stop_sequences, list), do: is_list(list) and Enum.all?(list, &sequence?/1)
  defp valid?(:stop_when, fun), do: fun == nil or is_function(fun, 1)
  defp valid?(:on_token, fun), do: fun == nil or is_function(fun, 1)
  defp valid?(:session, session), do: session == nil or is_struct(session, Session)
  defp valid?(:log_probabilities, flag), do: is_boolean(flag)
  defp valid?(:draft, draft), do: draft == nil or is_struct(draft, Generation)
  defp valid?(:draft_tokens, count), do: is_integer(count) and count > 0
  defp valid?(:seed, seed), do: seed == nil or (is_integer(seed) and seed >= 0)

  defp sequence?(sequence), do: is_list(sequence) and sequence != [] and tokens?(sequence)
  defp tokens?(tokens), do: Enum.all?(tokens, &(is_integer(&1) and &1 >= 0))

  defp wanted(:max_tokens), do: "a positive integer or :infinity"
  defp wanted(:end_tokens), do: "a token or a list of tokens"
  defp wanted(:stop_sequences), do: "a list of lists of tokens, none of them empty"
  defp wanted(:stop_when), do: "a function of the tokens, the newest first"
  defp wanted(:on_token), do: "a function of what stream/3 has as elements"
  defp wanted(:session), do: "an Emily.Generation.Session"
  defp wanted(:log_probabilities), do: "true or false"
  defp wanted(:draft), do: "an Emily.Generation"
  defp wanted(:draft_tokens), do: "a positive integer"
  defp wanted(:seed), do: "an integer from 0 on"

  @doc "A limit after one less, where there is a limit."
  @spec less(pos_integer() | :infinity) :: non_neg_integer() | :infinity
  def less(:infinity), do: :infinity
  def less(count), do: count - 1

  @doc "Raises what all of the driver raises for what it cannot work with."
  @spec refuse(String.t(), term()) :: no_return()
  def refuse(expected, got),
    do: raise(ArgumentError, "expected #{expected}, got: #{inspect(got)}")
end
