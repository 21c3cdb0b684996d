defmodule Emily.Generation.Request do
  @moduledoc false
  # What one call asks for, checked before anything is computed.

  alias Emily.Generation.{Prompt, Session, Stop}

  @enforce_keys [:prompt, :session, :stop, :most, :on_token, :sampler]
  defstruct [:prompt, :session, :stop, :most, :on_token, :sampler]

  @type t :: %__MODULE__{
          prompt: Prompt.t(),
          session: Session.t() | nil,
          stop: Stop.t(),
          most: pos_integer() | :infinity,
          on_token: (term() -> term()) | nil,
          sampler: term()
        }

  @own [
    max_tokens: 256,
    end_tokens: [],
    stop_sequences: [],
    stop_when: nil,
    session: nil,
    on_token: nil
  ]

  @spec new(Emily.Generation.t(), term(), keyword()) :: t()
  def new(generation, prompt, options) do
    options = options!(options, @own)
    prompt = Prompt.new(prompt, generation.vocabulary)
    for {name, value} <- options, do: check!(name, value)

    %__MODULE__{
      prompt: prompt,
      session: options.session,
      stop: Stop.new(options),
      most: options.max_tokens,
      on_token: options.on_token,
      sampler: :greedy
    }
  end

  @doc "The options of a prompt that is read and not continued."
  @spec reading(Emily.Generation.t(), term(), keyword()) :: {Prompt.t(), Session.t() | nil}
  def reading(generation, prompt, options) do
    options = options!(options, Keyword.take(@own, [:session]))
    check!(:session, options.session)
    {Prompt.new(prompt, generation.vocabulary), options.session}
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

  defp sequence?(sequence), do: is_list(sequence) and sequence != [] and tokens?(sequence)
  defp tokens?(tokens), do: Enum.all?(tokens, &(is_integer(&1) and &1 >= 0))

  defp wanted(:max_tokens), do: "a positive integer or :infinity"
  defp wanted(:end_tokens), do: "a token or a list of tokens"
  defp wanted(:stop_sequences), do: "a list of lists of tokens, none of them empty"
  defp wanted(:stop_when), do: "a function of the tokens, the newest first"
  defp wanted(:on_token), do: "a function of what stream/3 has as elements"
  defp wanted(:session), do: "an Emily.Generation.Session"

  @doc "Raises what all of the driver raises for what it cannot work with."
  @spec refuse(String.t(), term()) :: no_return()
  def refuse(expected, got),
    do: raise(ArgumentError, "expected #{expected}, got: #{inspect(got)}")
end
