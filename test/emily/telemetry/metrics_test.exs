# Without Nx there is no telemetry.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Telemetry.MetricsTest do
    use ExUnit.Case, async: true

    alias Emily.Telemetry.{Event, Metrics}

    @moduletag :nx
    @moduletag :native

    # Makes of a name and options what `Telemetry.Metrics` does.
    defmodule Definition do
      @kinds [:counter, :sum, :last_value, :summary]
      @options [:measurement, :tags, :tag_values, :unit, :description]

      for kind <- @kinds do
        def unquote(kind)(name, options), do: define(unquote(kind), name, options)
      end

      defp define(kind, name, options) do
        {:ok, options} = Keyword.validate(options, @options)

        {event, [last]} =
          name |> String.split(".") |> Enum.map(&String.to_atom/1) |> Enum.split(-1)

        options
        |> Map.new()
        |> Map.merge(%{
          kind: kind,
          name: name,
          event_name: event,
          measurement: options[:measurement] || last
        })
      end
    end

    test "measure and tag what events carry, and each event that tells a result is measured" do
      metrics = Metrics.definitions(Definition)
      events = Map.new(Event.all(), &{&1.name, &1})

      for metric <- metrics do
        event = Map.fetch!(events, metric.event_name)
        assert List.keymember?(event.measurements, metric.measurement, 0), metric.name
        for tag <- metric[:tags] || [], do: assert(List.keymember?(event.metadata, tag, 0))
        assert is_binary(metric.description)
      end

      measured = metrics |> Enum.map(& &1.event_name) |> Enum.uniq() |> Enum.sort()
      assert measured == for(name <- Enum.sort(Map.keys(events)), :start not in name, do: name)
      assert Enum.uniq_by(metrics, & &1.name) == metrics
    end

    test "tell what memory tells" do
      measured =
        for %{event_name: [:emily, :memory, :stats], measurement: key} <-
              Metrics.definitions(Definition),
            do: key

      assert Enum.sort(measured) == Enum.sort(Map.keys(Emily.Memory.stats()))
    end

    test "give times in milliseconds, memory in bytes and texts in tokens" do
      for metric <- Metrics.definitions(Definition), metric.kind != :counter do
        unit =
          case metric.measurement do
            :duration -> {:native, :millisecond}
            tokens when tokens in [:tokens, :tokens_per_second] -> :token
            _memory -> :byte
          end

        assert metric.unit == unit, metric.name
      end
    end

    test "name blocks as code does" do
      [metric] = for %{tags: [:block]} = metric <- Metrics.definitions(Definition), do: metric
      assert metric.tag_values.(%{block: Nx.Block.Phase, count: 1}).block == "Nx.Block.Phase"
    end

    test "say which dependency is missing" do
      message =
        "expected Missing.Metrics to be there: add {:telemetry_metrics, \"~> 1.0\"} to the " <>
          "dependencies in mix.exs"

      assert_raise Emily.Error, message, fn -> Metrics.definitions(Missing.Metrics) end
    end

    test "are those of Telemetry.Metrics" do
      if Code.ensure_loaded?(Telemetry.Metrics) do
        assert Emily.Telemetry.metrics() == Metrics.definitions(Telemetry.Metrics)
      else
        assert_raise Emily.Error, ~r/expected Telemetry.Metrics to be there/, fn ->
          Emily.Telemetry.metrics()
        end
      end
    end
  end
end
