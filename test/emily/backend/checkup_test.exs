# Without Nx there is no backend to check.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Backend.CheckupTest do
    use ExUnit.Case, async: true

    alias Emily.Backend.Checkup

    @moduletag :nx
    @moduletag :native

    test "every operation stays, and the caller's backend is as before" do
      before = Nx.default_backend()
      assert {:ok, names, []} = Checkup.run()
      assert "windows" in names and "random numbers" in names
      assert Nx.default_backend() == before
    end

    test "what leaves, fails or is wrong is found" do
      fallback = fn ->
        Emily.Fallback.run({:twice, "a test asks for it"}, [Nx.tensor([1])], fn [t] ->
          Nx.multiply(t, 2)
        end)
      end

      operations = [
        {"leaves", fallback, [2]},
        {"elsewhere", fn -> Nx.tensor([1], backend: Nx.BinaryBackend) end, [1]},
        {"wrong", fn -> Nx.tensor([1, 2]) end, [1, 3]},
        {"short", fn -> Nx.tensor([1]) end, [1, 3]},
        {"raises", fn -> raise "no" end, [1]},
        {"fine", fn -> Nx.tensor([1]) end, [1]}
      ]

      {result, _log} = ExUnit.CaptureLog.with_log(fn -> Checkup.run(operations) end)

      assert result ==
               {:ok, ["leaves", "elsewhere", "wrong", "short", "raises", "fine"],
                [
                  {"leaves", "twice left Emily"},
                  {"elsewhere", "its result is a tensor of Nx.BinaryBackend"},
                  {"wrong", "expected [1, 3], got: [1, 2]"},
                  {"short", "expected [1, 3], got: [1]"},
                  {"raises", "no"}
                ]}
    end
  end
end
