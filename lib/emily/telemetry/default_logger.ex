defmodule Emily.Telemetry.DefaultLogger do
  @moduledoc false
  # Logs Emily's events, a line each.

  require Logger

  alias Emily.Telemetry.{Event, Line}

  # What an event is about: `[:emily, subject | _]`.
  @subjects Event.all() |> Enum.map(&Enum.at(&1.name, 1)) |> Enum.uniq()
  @defaults [level: :info, events: @subjects, slow: 0]

  @spec attach(keyword()) :: :ok | {:error, :already_exists}
  def attach(options) do
    options = validate!(options)
    # A line says how something ended.
    names =
      for %Event{name: [:emily, subject | rest] = name} <- Event.all(),
          subject in options.events,
          rest != [:start],
          do: name

    slow = System.convert_time_unit(ceil(options.slow * 1000), :microsecond, :native)
    config = %{level: options.level, slow: slow}
    :telemetry.attach_many(__MODULE__, names, &__MODULE__.handle/4, config)
  end

  @spec detach() :: :ok | {:error, :not_found}
  def detach, do: :telemetry.detach(__MODULE__)

  @doc """
  Logs one event.

  Never fails: a handler that does is detached for good.
  """
  def handle(event, measurements, metadata, config) do
    if logged?(event, measurements, config) do
      Logger.log(level(event, config), fn -> Line.of(event, measurements, metadata) end)
    end
  catch
    kind, reason ->
      banner = Exception.format_banner(kind, reason, __STACKTRACE__)
      Logger.warning("could not log #{inspect(event)}: #{Line.one_line(banner)}")
  end

  defp logged?([:emily, _subject, :stop], %{duration: duration}, %{slow: slow}),
    do: duration >= slow

  defp logged?(_event, _measurements, _config), do: true

  defp level([:emily, _subject, :exception], _config), do: :error
  defp level(_event, %{level: level}), do: level

  defp validate!(options) do
    options =
      case Keyword.validate(options, @defaults) do
        {:ok, options} -> Map.new(options)
        {:error, unknown} -> refuse("the options", ":level, :events and :slow", unknown)
      end

    if options.level not in Logger.levels(),
      do: refuse(":level", "one of #{inspect(Logger.levels())}", options.level)

    if not (is_list(options.events) and options.events != [] and options.events -- @subjects == []),
      do: refuse(":events", "a list of some of #{inspect(@subjects)}", options.events)

    if not (is_number(options.slow) and options.slow >= 0),
      do: refuse(":slow", "milliseconds", options.slow)

    options
  end

  defp refuse(what, expected, got),
    do: raise(ArgumentError, "expected #{what} to be #{expected}, got: #{inspect(got)}")
end
