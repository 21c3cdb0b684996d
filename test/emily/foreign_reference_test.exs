defmodule Emily.ForeignReferenceTest do
  # A reference to a tensor that was sent to another node, or saved and read in another VM.
  use ExUnit.Case, async: true

  @moduletag :native

  @message "expected a tensor of this node (to send one to another node, or to save it, copy it with " <>
             "Nx.backend_copy/1 or Emily.to_binary/1), got: a reference to one that is not here"

  # What the other node makes of what this one sends: the reference with the name of its node.
  defp received(reference) do
    <<131, 90, words::16, 119, size, _name::binary-size(size), rest::binary>> =
      :erlang.term_to_binary(reference)

    name = "nonode@elsewhere"

    :erlang.binary_to_term(<<131, 90, words::16, 119, byte_size(name), name::binary>> <> rest)
  end

  defp tensor, do: Emily.from_binary(<<1, 2, 3>>, [3], {:u, 8})

  test "is refused by every function, with what to do instead" do
    foreign = received(tensor())
    assert node(foreign) == :nonode@elsewhere

    # A reference that this node made, but whose tensor is gone, is no better.
    for reference <- [foreign, make_ref()],
        use <- [
          &Emily.to_binary/1,
          &Emily.eval/1,
          &Emily.async_eval/1,
          &Emily.shape/1,
          &Emily.dtype/1,
          &Emily.address/1,
          &Emily.op(:add, [tensor(), &1]),
          &Emily.Native.deallocate/1
        ] do
      assert_raise ArgumentError, @message, fn -> use.(reference) end
    end

    refute_received _answer
  end

  test "means the tensor again where it comes back to its node" do
    tensor = tensor()

    assert tensor |> :erlang.term_to_binary() |> :erlang.binary_to_term() |> Emily.to_binary() ==
             <<1, 2, 3>>

    assert Emily.to_binary(tensor) == <<1, 2, 3>>
  end

  test "is not taken for a stream, nor a stream for a tensor" do
    stream = Emily.Stream.new(:cpu)
    message = "expected a stream of this node, got: a reference to one that is not here"

    for reference <- [received(stream.ref), tensor()] do
      assert_raise ArgumentError, message, fn ->
        Emily.Stream.with_stream(%{stream | ref: reference}, &tensor/0)
      end
    end

    assert_raise ArgumentError, @message, fn -> Emily.to_binary(stream.ref) end
  end

  test "is told from what is no reference" do
    for {term, shown} <- [
          {:x, ":x"},
          {nil, "nil"},
          {%{ref: 1}, "%{:ref => 1}"},
          {<<1>>, "\"\\u{1}\""}
        ] do
      assert_raise ArgumentError, "expected a tensor, got: #{shown}", fn ->
        Emily.to_binary(term)
      end
    end
  end
end
