defmodule Emily.Telemetry.Event do
  @moduledoc false
  # Every event that Emily emits, with what it carries: the one list, from which the documentation's
  # tables are made and against which tests hold what is emitted.

  @enforce_keys [:name, :about, :measurements, :metadata]
  defstruct [:name, :about, :measurements, :metadata]

  @typedoc "A key of the event, its type or unit, and its meaning."
  @type field :: {atom(), String.t(), String.t()}

  @type t :: %__MODULE__{
          name: :telemetry.event_name(),
          about: String.t(),
          measurements: [field()],
          metadata: [field()]
        }

  @native "native time units"
  @type_unit "`t:Nx.Type.t/0`"

  @context {:telemetry_span_context, "reference", "the same in the events of one span"}

  @begun [
    {:system_time, @native, "when the span began"},
    {:monotonic_time, @native, "when the span began"}
  ]

  @ended [
    {:duration, @native, "how long the span took"},
    {:monotonic_time, @native, "when the span ended"}
  ]

  @failure [
    {:kind, "`:error`, `:exit` or `:throw`", "how it failed"},
    {:reason, "term", "what was raised, such as an `Emily.Error`"},
    {:stacktrace, "`t:Exception.stacktrace/0`", "where"}
  ]

  @tensor [
    {:type, @type_unit, "the tensor's element type"},
    {:shape, "tuple", "the tensor's shape, with its vectorized axes first"},
    {:device, "`:cpu`, `:gpu` or nil", "where it is computed; nil for tensors that are not Nx's"}
  ]

  @inputs {:inputs, "list of `{type, shape}`", "the tensors that it is given"}
  @device {:device, "`:cpu` or `:gpu`", "the device that they are on"}
  @count {:count, "1", "one occurrence"}

  @rows {:rows, "integer", "how many texts there are"}
  @tokens {:tokens, "tokens", "how many there were in all rows"}
  @rate {:tokens_per_second, "tokens a second", "how fast that was"}

  @spans [
    {:eval, "A process waits for a tensor to be computed.", [], @tensor},
    {:to_binary, "A process waits for a tensor's elements, and has them computed if need be.",
     [{:bytes, "bytes", "how many were read"}], @tensor},
    {:fallback,
     "An operation is computed by `Nx.BinaryBackend`, as `Emily.Fallback` describes. The span " <>
       "covers both ways between the devices.", [],
     [
       {:operation, "atom", "its name in Nx"},
       {:reason, "string", "why MLX cannot compute it"},
       @inputs,
       @device
     ]},
    {:prefill,
     "`Emily.Generation` reads prompts, all but the last token of each, and waits for that.",
     [
       @tokens,
       @rate,
       {:reused, "tokens", "how many were not read, because a session had them"}
     ], [@rows]},
    {:decode,
     "`Emily.Generation` generates, from the first step to the last token that is handed out. Of a stream that is in " <>
       "the time that its consumer takes.",
     [
       @tokens,
       @rate,
       {:steps, "steps", "how often the model ran, or with a draft was asked for several tokens"}
     ], [@rows]}
  ]

  @single [
    {[:compiler, :fallback],
     "A whole function is run by `Nx.Defn.Evaluator`, operation by operation, because something " <>
       "in it cannot be part of a compiled program.", [@count],
     [
       {:construct, "atom", "what cannot be compiled"},
       {:reason, "string", "why"},
       {:function, "`{module, name, arity}` or nil", "the function, if it has a name"}
     ]},
    {[:compiler, :unfused],
     "A function that was to be fused (`fuse: true`) runs operation by operation, because its kernels could not " <>
       "be made: there is no C++ compiler, or it failed. It is emitted once for each function and stream.",
     [@count],
     [
       {:reason, "string", "why, with what the compiler said"},
       {:device, "`:cpu` or `:gpu`", "the device that the function is computed on"}
     ]},
    {[:block, :fallback],
     "An `Nx.Block` that has no native operation runs its default implementation, which is made " <>
       "of other operations, on the device.", [@count],
     [
       {:block, "module", "the block's struct"},
       {:struct, "struct", "the block itself, with its options"},
       @inputs,
       @device
     ]},
    {[:memory, :stats], "What `Emily.Memory.stats/0` says, whenever `memory_stats/0` is called.",
     [
       {:active, "bytes", "in tensors and in what is being computed"},
       {:peak, "bytes", "the most that was active at a time"},
       {:cache, "bytes", "kept for the next tensors"},
       {:adopted, "bytes", "of binaries that tensors read in place"}
     ], []}
  ]

  @doc "All events."
  @spec all() :: [t()]
  def all, do: Enum.concat(groups())

  # The events of a span belong together.
  defp groups, do: Enum.map(@spans, &span/1) ++ Enum.map(@single, &[single(&1)])

  defp span({name, about, read, metadata}) do
    metadata = [@context | metadata]

    # What a failure says of itself comes in the place of what the span said.
    failed = Enum.reject(metadata, &List.keymember?(@failure, elem(&1, 0), 0)) ++ @failure

    for {phase, measurements, metadata} <- [
          {:start, @begun, metadata},
          {:stop, @ended ++ read, metadata},
          {:exception, @ended, failed}
        ] do
      single({[name, phase], about, measurements, metadata})
    end
  end

  defp single({name, about, measurements, metadata}) do
    %__MODULE__{
      name: [:emily | name],
      about: about,
      measurements: measurements,
      metadata: metadata
    }
  end

  @doc "The documentation of all events, in Markdown: a table for each span and single event."
  @spec tables() :: String.t()
  def tables, do: Enum.map_join(groups(), "\n", &section/1)

  defp section([%{about: about} | _] = events) do
    """
    ### #{Enum.map_join(events, ", ", &"`#{inspect(&1.name)}`")}

    #{about}

    | event | in | key | type or unit | meaning |
    | --- | --- | --- | --- | --- |
    #{table(events, :measurements)}#{table(events, :metadata)}\
    """
  end

  defp table(events, place) do
    carried = for event <- events, field <- Map.fetch!(event, place), do: {field, event.name}
    fields = carried |> Enum.map(&elem(&1, 0)) |> Enum.uniq()

    for {key, unit, meaning} = field <- fields, into: "" do
      phases = for {^field, name} <- carried, do: "`#{inspect(List.last(name))}`"
      "| #{Enum.join(phases, ", ")} | #{place} | `:#{key}` | #{unit} | #{meaning} |\n"
    end
  end
end
