defmodule Emily.Telemetry.Line do
  @moduledoc false
  # An event as one line of text.

  @doc "The line for an event that `Emily.Telemetry` documents; spans' start has none."
  @spec of(:telemetry.event_name(), map(), map()) :: String.t()
  def of([:emily, :eval, :stop], %{duration: duration}, metadata),
    do: "emily eval of #{tensor(metadata)} took #{time(duration)}"

  def of([:emily, :to_binary, :stop], %{duration: duration, bytes: bytes}, metadata),
    do: "emily to_binary of #{tensor(metadata)} took #{time(duration)} for #{size(bytes)}"

  def of([:emily, :fallback, :stop], %{duration: duration}, metadata) do
    "emily fallback #{what(metadata)} took #{time(duration)}, " <>
      "because #{one_line(metadata.reason)}"
  end

  def of([:emily, kind, :stop], %{duration: duration, tokens: tokens} = measurements, metadata)
      when kind in [:prefill, :decode] do
    rate = Float.round(measurements.tokens_per_second, 1)

    "emily #{kind} of #{tokens} tokens in #{rows(metadata)} took #{time(duration)}, #{rate} a second"
  end

  def of([:emily, subject, :exception], %{duration: duration}, metadata) do
    failure = Exception.format_banner(metadata.kind, metadata.reason, metadata.stacktrace)

    "emily #{subject} #{what(metadata)} failed after #{time(duration)}: #{one_line(failure)}"
  end

  def of([:emily, :compiler, :fallback], _measurements, metadata) do
    "emily compiler fallback for #{function(metadata.function)} at #{metadata.construct}, " <>
      "because #{one_line(metadata.reason)}"
  end

  def of([:emily, :compiler, :unfused], _measurements, metadata),
    do: "emily compiler: not fused#{on(metadata.device)}, because #{one_line(metadata.reason)}"

  def of([:emily, :block, :fallback], _measurements, metadata),
    do: "emily block fallback for #{inspect(metadata.block)} of #{tensors(metadata)}"

  def of([:emily, :memory, :stats], measurements, _metadata) do
    "emily memory: " <>
      Enum.map_join(Enum.sort(measurements), ", ", fn {name, bytes} ->
        "#{size(bytes)} #{name}"
      end)
  end

  defp rows(%{rows: 1}), do: "1 row"
  defp rows(%{rows: rows}), do: "#{rows} rows"

  defp what(%{rows: _rows} = metadata), do: "of #{rows(metadata)}"
  defp what(%{operation: operation} = metadata), do: "for #{operation} of #{tensors(metadata)}"
  defp what(metadata), do: "of #{tensor(metadata)}"

  defp tensor(%{type: type, shape: shape, device: device}),
    do: shown({type, shape}) <> on(device)

  defp tensors(%{inputs: inputs, device: device}),
    do: Enum.map_join(inputs, ", ", &shown/1) <> on(device)

  defp shown({nil, _shape}), do: "a deallocated tensor"

  defp shown({type, shape}) do
    for size <- Tuple.to_list(shape), into: Nx.Type.to_string(type), do: "[#{size}]"
  end

  defp on(nil), do: ""
  defp on(device), do: " on #{device}"

  defp function({module, name, arity}), do: Exception.format_mfa(module, name, arity)
  defp function(nil), do: "a function"

  @doc "A text without its line breaks and indentation."
  @spec one_line(String.t()) :: String.t()
  def one_line(text), do: text |> String.split() |> Enum.join(" ")

  @doc "A duration in native time units with a unit that fits it."
  @spec time(integer()) :: String.t()
  def time(duration) do
    case System.convert_time_unit(duration, :native, :microsecond) do
      us when us < 1000 -> "#{us}µs"
      us when us < 1_000_000 -> "#{Float.round(us / 1000, 1)}ms"
      us -> "#{Float.round(us / 1_000_000, 1)}s"
    end
  end

  @doc "A number of bytes with a unit that fits it."
  @spec size(non_neg_integer()) :: String.t()
  def size(bytes) when bytes < 1024, do: "#{bytes} B"
  def size(bytes), do: larger(bytes / 1024, ~w(KiB MiB GiB TiB))

  # What would be rounded to 1024 belongs to the next unit.
  defp larger(number, [_unit | [_ | _] = units]) when number >= 1023.95,
    do: larger(number / 1024, units)

  defp larger(number, [unit | _units]), do: "#{Float.round(number, 1)} #{unit}"
end
