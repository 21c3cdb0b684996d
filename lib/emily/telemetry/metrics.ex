defmodule Emily.Telemetry.Metrics do
  @moduledoc false
  # What of Emily's events is worth a chart, as `Telemetry.Metrics` has it.

  @time {:native, :millisecond}

  # The kind of metric, its name, which ends in a measurement unless another one is given, and what
  # `Telemetry.Metrics` takes as options.
  @definitions [
    {:summary, "emily.eval.stop.duration",
     unit: @time, tags: [:device], description: "Waiting for tensors to be computed"},
    {:summary, "emily.to_binary.stop.duration",
     unit: @time, tags: [:device], description: "Waiting for tensors' elements"},
    {:sum, "emily.to_binary.stop.bytes",
     unit: :byte, tags: [:device], description: "What was waited for and read"},
    {:counter, "emily.eval.exception.count",
     measurement: :duration, tags: [:device], description: "Computations that failed"},
    {:counter, "emily.to_binary.exception.count",
     measurement: :duration, tags: [:device], description: "Reads that failed"},
    {:summary, "emily.fallback.stop.duration",
     unit: @time, tags: [:operation], description: "Operations that left MLX"},
    {:counter, "emily.fallback.exception.count",
     measurement: :duration,
     tags: [:operation],
     description: "Operations that left MLX and failed"},
    {:summary, "emily.prefill.stop.tokens_per_second",
     unit: :token, tags: [:rows], description: "How fast prompts were read"},
    {:summary, "emily.decode.stop.tokens_per_second",
     unit: :token, tags: [:rows], description: "How fast texts were generated"},
    {:sum, "emily.decode.stop.tokens",
     unit: :token, tags: [:rows], description: "What was generated"},
    {:counter, "emily.prefill.exception.count",
     measurement: :duration, tags: [:rows], description: "Prompts that could not be read"},
    {:counter, "emily.decode.exception.count",
     measurement: :duration, tags: [:rows], description: "Generations that failed"},
    {:counter, "emily.compiler.fallback.count",
     tags: [:construct], description: "Functions that were not compiled"},
    {:counter, "emily.compiler.unfused.count",
     tags: [:device], description: "Functions that were to be fused and were not"},
    {:counter, "emily.block.fallback.count",
     tags: [:block],
     tag_values: &__MODULE__.block_name/1,
     description: "Blocks that have no native operation"},
    {:last_value, "emily.memory.stats.active",
     unit: :byte, description: "Memory in tensors and computations"},
    {:last_value, "emily.memory.stats.peak",
     unit: :byte, description: "The most that was active"},
    {:last_value, "emily.memory.stats.cache",
     unit: :byte, description: "Memory kept for the next tensors"},
    {:last_value, "emily.memory.stats.adopted",
     unit: :byte, description: "Binaries that tensors read in place"}
  ]

  @doc """
  The definitions, made by `module`, which has the functions of `Telemetry.Metrics`.

  Raises `Emily.Error` if it cannot be loaded.
  """
  @spec definitions(module()) :: [struct()]
  def definitions(module) do
    if not Code.ensure_loaded?(module) do
      raise Emily.Error,
        reason:
          "expected #{inspect(module)} to be there: add {:telemetry_metrics, \"~> 1.0\"} to the " <>
            "dependencies in mix.exs"
    end

    for {kind, name, options} <- @definitions, do: apply(module, kind, [name, options])
  end

  @doc "The metadata with the block's name as it is written in code; reporters would show an atom."
  @spec block_name(map()) :: map()
  def block_name(metadata), do: %{metadata | block: inspect(metadata.block)}
end
