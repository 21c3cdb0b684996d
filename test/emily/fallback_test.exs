# Without Nx there is no other backend to fall back to.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.FallbackTest do
    # Changes the application's configuration.
    use ExUnit.Case, async: false

    import ExUnit.CaptureLog

    alias Emily.Fallback

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Emily.Backend)
      watch = make_ref()
      test = self()

      :telemetry.attach_many(
        watch,
        for(event <- [:start, :stop, :exception], do: [:emily, :fallback, event]),
        &__MODULE__.note/4,
        test
      )

      on_exit(fn ->
        :telemetry.detach(watch)
        Application.delete_env(:emily, :fallback)
        Application.delete_env(:emily, :warn_on_fallback)
      end)
    end

    def note([_, _, event], _measurements, metadata, test), do: send(test, {event, metadata})

    defp twice(t) do
      Fallback.run({:twice, "it is a test"}, [t], fn [t] ->
        assert %Nx.Tensor{data: %Nx.BinaryBackend{}} = t
        assert {Nx.BinaryBackend, _} = Nx.default_backend()
        Nx.multiply(t, 2)
      end)
    end

    test "computes elsewhere, comes back, and says so in a warning and a span" do
      t = Nx.tensor([1, 2])

      {result, log} = with_log(fn -> twice(t) end)
      assert %Nx.Tensor{data: %Emily.Backend{}} = result
      assert Nx.to_flat_list(result) == [2, 4]
      assert log =~ "Nx.twice leaves MLX for Nx.BinaryBackend, because it is a test"

      assert_received {:start, metadata}
      assert %{operation: :twice, reason: "it is a test", inputs: [{{:s, 32}, {2}}]} = metadata
      assert metadata.device == t.data.device
      assert_received {:stop, %{operation: :twice}}
    end

    test "is silent where it is told to be" do
      Application.put_env(:emily, :fallback, :silent)
      assert capture_log(fn -> twice(Nx.tensor([1])) end) == ""
      Application.delete_env(:emily, :fallback)
      Application.put_env(:emily, :warn_on_fallback, false)
      assert capture_log(fn -> twice(Nx.tensor([1])) end) == ""
      assert_received {:stop, _}
    end

    test "is refused where it is forbidden" do
      Application.put_env(:emily, :fallback, :raise)

      assert_raise Emily.Error,
                   "Nx.twice leaves MLX for Nx.BinaryBackend, because it is a test, which " <>
                     "`config :emily, fallback: :raise` forbids",
                   fn -> twice(Nx.tensor([1])) end

      assert_received {:exception, %{operation: :twice}}
    end
  end
end
