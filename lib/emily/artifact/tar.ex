defmodule Emily.Artifact.Tar do
  @moduledoc """
  The 512-byte headers of a tar archive.

  `:erl_tar` would do for a friendly archive. This one exists because it judges a header before a
  byte of its entry is read, and takes an entry of any kind but a regular file as what it is.
  """

  @block 512

  @typedoc "A regular file's entry, or the words for what it is instead."
  @type entry :: %{
          name: String.t(),
          kind: :file | String.t(),
          size: non_neg_integer(),
          mode: non_neg_integer()
        }

  @kinds %{
    ?1 => "a hard link",
    ?2 => "a symbolic link",
    ?3 => "a character device",
    ?4 => "a block device",
    ?5 => "a folder",
    ?6 => "a named pipe",
    ?L => "a GNU long name",
    ?K => "a GNU long link",
    ?x => "an extended header",
    ?g => "a global extended header",
    ?S => "a sparse file"
  }

  @doc "The size of a block."
  @spec block() :: pos_integer()
  def block, do: @block

  @doc "How many bytes of padding follow an entry of a size."
  @spec padding(non_neg_integer()) :: 0..511
  def padding(size), do: rem(@block - rem(size, @block), @block)

  @doc "Reads a header; a block of zeros is the archive's end."
  @spec decode(<<_::4096>>) :: {:ok, entry()} | :end | {:error, String.t()}
  def decode(<<0::size(@block * 8)>>), do: :end

  def decode(<<block::binary-size(@block)>>) do
    <<name::binary-100, mode::binary-8, _ids::binary-16, size::binary-12, _time::binary-12,
      checksum::binary-8, type, _link::binary-100, magic::binary-5, _rest::binary-83,
      prefix::binary-155, _padding::binary-12>> = block

    with {:ok, expected} <- octal(checksum, "checksum"),
         true <- expected == sum(block) || {:error, "a header whose checksum does not match"},
         true <- magic == "ustar" || {:error, "a header that is neither ustar nor GNU"},
         {:ok, size} <- octal(size, "size"),
         {:ok, mode} <- octal(mode, "mode") do
      {:ok, %{name: name(text(prefix), text(name)), kind: kind(type), size: size, mode: mode}}
    end
  end

  defp kind(type) when type in [?0, 0], do: :file
  defp kind(type), do: Map.get(@kinds, type, "an entry of unknown type #{type}")

  defp name("", name), do: name
  defp name(prefix, name), do: prefix <> "/" <> name

  defp text(field), do: field |> :binary.split(<<0>>) |> hd()

  defp octal(field, what) do
    digits = String.trim(text(field), " ")

    case digits =~ ~r/\A[0-7]+\z/ && Integer.parse(digits, 8) do
      {number, ""} -> {:ok, number}
      _other -> {:error, "a header whose #{what} is no octal number"}
    end
  end

  # The sum counts its own field as eight spaces.
  defp sum(<<before::binary-148, _checksum::binary-8, rest::binary>>) do
    sum(before, 8 * ?\s) |> then(&sum(rest, &1))
  end

  defp sum(<<byte, rest::binary>>, total), do: sum(rest, total + byte)
  defp sum(<<>>, total), do: total
end
