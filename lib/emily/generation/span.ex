defmodule Emily.Generation.Span do
  @moduledoc false
  # The events of a stretch of work that no single function call is: a stream's consumer comes and goes.

  alias Emily.Telemetry

  @enforce_keys [:kind, :metadata, :began, :open]
  defstruct [:kind, :metadata, :began, :open]

  @typedoc "A span, which ends once whoever says so: `open` is a counter that is 0 afterwards."
  @type t :: %__MODULE__{
          kind: :prefill | :decode,
          metadata: map(),
          began: integer(),
          open: :atomics.atomics_ref()
        }

  @spec open(:prefill | :decode, map()) :: t()
  def open(kind, metadata) do
    metadata = Map.put(metadata, :telemetry_span_context, make_ref())
    open = :atomics.new(1, [])
    :atomics.put(open, 1, 1)
    began = Telemetry.generation_begins(kind, metadata)
    %__MODULE__{kind: kind, metadata: metadata, began: began, open: open}
  end

  @doc "Calls `fun`, which is a part of the span; what it raises ends it."
  @spec guarded(t(), (-> result)) :: result when result: term()
  def guarded(span, fun) do
    fun.()
  catch
    kind, reason ->
      if closes?(span) do
        failure = %{kind: kind, reason: reason, stacktrace: __STACKTRACE__}
        Telemetry.generation_fails(span.kind, span.began, Map.merge(span.metadata, failure))
      end

      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  @doc "Ends the span, in which there were so many tokens, unless it has ended. Returns its seconds."
  @spec close(t(), non_neg_integer(), map()) :: float()
  def close(span, tokens, measurements) do
    duration = System.monotonic_time() - span.began
    seconds = duration / System.convert_time_unit(1, :second, :native)

    if closes?(span) do
      facts = %{tokens: tokens, tokens_per_second: rate(tokens, seconds)}

      measurements = Map.merge(facts, measurements)
      Telemetry.generation_ends(span.kind, span.began, measurements, span.metadata)
    end

    seconds
  end

  defp closes?(span), do: :atomics.exchange(span.open, 1, 0) == 1

  @doc "How many of these a second."
  @spec rate(non_neg_integer(), float()) :: float()
  def rate(count, seconds) when seconds > 0, do: count / seconds
  def rate(_count, _seconds), do: 0.0
end
