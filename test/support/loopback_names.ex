defmodule Emily.Test.LoopbackNames do
  @moduledoc """
  Finds nodes of this machine without a name server: a node's name ends with its port.

  Erlang calls it in place of `:erl_epmd` (`-epmd_module`), before Elixir is started, so it uses
  nothing of Elixir's.
  """

  @loopback {127, 0, 0, 1}
  # The version of the distribution protocol, as `:erl_epmd` gives it.
  @version 6

  def start_link, do: :ignore

  def register_node(name, port), do: register_node(name, port, :inet)
  def register_node(_name, _port, _family), do: {:ok, :rand.uniform(0xFFFF)}

  def listen_port_please(name, _host), do: {:ok, port(name)}

  def address_please(name, _host, _family), do: {:ok, @loopback, port(name), @version}

  def port_please(name, _host), do: {:port, port(name), @version}
  def port_please(name, host, _timeout), do: port_please(name, host)

  def names(_host), do: {:ok, []}

  defp port(name) do
    [_word, port] = :string.split(chars(name), ~c"-", :trailing)
    :erlang.list_to_integer(port)
  end

  defp chars(name) when is_atom(name), do: :erlang.atom_to_list(name)
  defp chars(name) when is_list(name), do: name
end
