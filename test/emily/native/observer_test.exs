defmodule Emily.Native.ObserverTest do
  # The observer is one for the whole VM.
  use ExUnit.Case, async: false

  alias Emily.Native.Observer

  @moduletag :native

  @behaviour Observer

  # Other processes may wait meanwhile; only those that name a listener are listened to.
  @impl true
  def wait(kind, tensor, device, fun) do
    result = fun.()
    if listener = Process.get(__MODULE__), do: send(listener, {kind, tensor, device, result})
    result
  end

  setup do
    before = :persistent_term.get(Observer, nil)
    on_exit(fn -> Observer.set(before) end)
    Process.put(__MODULE__, self())
    :ok
  end

  defp lazy, do: Emily.op(:iota, [], type: {:u, 8}, shape: [3])

  test "stands around what a process waits for, and is told the device by who knows it" do
    Observer.set(__MODULE__)

    t = lazy()
    assert Emily.eval(t) == :ok
    assert_received {:eval, ^t, nil, :ok}

    t = lazy()
    assert Emily.to_binary(t, :cpu) == <<0, 1, 2>>
    assert_received {:to_binary, ^t, :cpu, <<0, 1, 2>>}
  end

  test "does not hear of what is at hand, nor of what nobody waits for" do
    Observer.set(__MODULE__)

    t = Emily.from_binary(<<1, 2>>, [2], {:u, 8})
    assert Emily.eval(t) == :ok
    assert Emily.to_binary(t) == <<1, 2>>
    assert Emily.async_eval(lazy()) == :ok
    refute_received _
  end

  test "may be absent" do
    Observer.set(nil)

    assert Emily.eval(lazy()) == :ok
    assert Emily.to_binary(lazy()) == <<0, 1, 2>>
    refute_received _
  end
end
