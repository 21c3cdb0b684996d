# Without Nx there is no backend to test.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Backend.EvaluationTest do
    use ExUnit.Case, async: true

    alias Emily.Backend
    alias Emily.Test.Containers.{Column, Pair}

    @moduletag :nx
    @moduletag :native

    doctest Emily.Backend

    # The native core reads a tensor in place only if it is computed.
    defp computed?(%Nx.Tensor{data: %Backend{ref: ref}}) do
      reference = make_ref()

      case Emily.Native.read(ref, reference) do
        {:ok, _binary} ->
          true

        :pending ->
          assert_receive {^reference, _answer}, 60_000
          false
      end
    end

    setup do
      Nx.default_backend(Backend)
      :ok
    end

    defp lazy(number), do: Nx.add(Nx.iota({4}), number)

    defp failing, do: Nx.take(Nx.iota({3}), Nx.add(Nx.tensor([7]), 0))

    test "computes a tensor, and returns it" do
      t = lazy(1)
      assert Backend.eval(t) == t
      assert computed?(t)
      refute computed?(lazy(1))
    end

    test "computes every tensor of a container, and returns the container" do
      [a, b, c, d, e, f] = for number <- 1..6, do: lazy(number)
      column = %Column{tensor: f}
      pair = %Pair{left: d, right: {e, column}, name: "pair"}
      container = {a, 1.5, %{b: b, nested: {c, pair}}, Complex.new(1, 2)}

      assert Backend.eval(container) == container
      for t <- [a, b, c, d, e, f], do: assert(computed?(t))
    end

    test "computes vectorized tensors" do
      t = Nx.iota({2, 3}) |> Nx.vectorize(:x) |> Nx.add(1)
      assert Backend.eval(t) == t
      assert computed?(t)
      assert Nx.to_flat_list(Nx.devectorize(t)) == [1, 2, 3, 4, 5, 6]
    end

    test "computes on each tensor's stream" do
      stream = Emily.Stream.new(:cpu)
      aside = Emily.Stream.with_stream(stream, fn -> lazy(1) end)
      container = {lazy(2), aside, lazy(3)}
      assert Backend.eval(container) == container
      for t <- Tuple.to_list(container), do: assert(computed?(t))
    end

    test "passes over tensors of other backends, templates and what defn traces" do
      theirs = Nx.iota({2}, backend: Nx.BinaryBackend)
      ours = lazy(1)
      container = {theirs, ours, Nx.template({2}, :f32)}
      assert Backend.eval(container) == container
      assert computed?(ours)

      assert Backend.eval(theirs) == theirs
      assert Backend.async_eval(theirs) == theirs
      assert Backend.eval({}) == {}

      traced = Nx.Defn.jit(fn t -> t |> Nx.add(1) |> Backend.eval() |> Nx.multiply(2) end)
      assert Nx.to_flat_list(traced.(Nx.tensor([1, 2]))) == [4, 6]
    end

    test "begins to compute, and whoever reads gets the numbers" do
      container = {lazy(1), %{b: lazy(2)}}
      assert {a, %{b: b}} = Backend.async_eval(container)
      assert {a, %{b: b}} == container
      assert Nx.to_flat_list(a) == [1, 2, 3, 4]
      assert Nx.to_flat_list(b) == [2, 3, 4, 5]
    end

    test "raises what a tensor's computation raises, and leaves no message" do
      for container <- [failing(), {failing(), lazy(1)}, {lazy(1), %{a: failing()}}] do
        assert Backend.async_eval(container) == container
        assert_raise Emily.Error, ~r/index/, fn -> Backend.eval(container) end
      end

      refute_received _
    end

    test "refuses what is no container" do
      for other <- [[lazy(1)], :tensor, "tensor", true] do
        assert_raise Protocol.UndefinedError, fn -> Backend.eval(other) end
        assert_raise Protocol.UndefinedError, fn -> Backend.async_eval(other) end
      end
    end

    test "refuses a tensor that was deallocated" do
      t = lazy(1)
      Nx.backend_deallocate(t)

      for evaluate <- [&Backend.eval/1, &Backend.async_eval/1] do
        assert_raise ArgumentError, "expected a tensor, got: one that was deallocated", fn ->
          evaluate.({lazy(1), t})
        end
      end
    end
  end
end
