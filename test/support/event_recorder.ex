# Without Nx there is no telemetry.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Test.EventRecorder do
    @moduledoc "Sends a test the telemetry events that its own process emits."

    @doc "Records until the test ends: `{:event, name, measurements, metadata}` for each event."
    @spec record([[atom()]]) :: :ok
    def record(names) do
      id = make_ref()
      ExUnit.Callbacks.on_exit(fn -> :telemetry.detach(id) end)
      :telemetry.attach_many(id, names, &__MODULE__.note/4, self())
    end

    @doc false
    def note(name, measurements, metadata, test) do
      if self() == test, do: send(test, {:event, name, measurements, metadata})
    end

    @doc "What was recorded until now, in order."
    @spec recorded() :: [{[atom()], map(), map()}]
    def recorded do
      receive do
        {:event, name, measurements, metadata} -> [{name, measurements, metadata} | recorded()]
      after
        0 -> []
      end
    end
  end
end
