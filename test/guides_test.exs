defmodule Emily.Test.GuideTest do
  use ExUnit.Case, async: true

  alias Emily.Test.Guide

  defp guide(code), do: "Text.\n\n```elixir\n#{code}\n```\n\nMore text.\n"

  defp refused(code) do
    error = assert_raise ExUnit.AssertionError, fn -> Guide.run(guide(code), "a.md") end
    Exception.message(error)
  end

  test "blocks share variables, aliases and modules, and other blocks are text" do
    markdown = """
    ```elixir
    alias String, as: Text
    defmodule Emily.Test.GuideTest.Defined, do: def(two, do: 2)
    one = 1
    ```

    ```console
    $ this is not run
    ```

    - in a list:

      ```elixir
      Text.length("abc") + one
      #=> 4

      {:ok, self(), Emily.Test.GuideTest.Defined.two()}
      #=> {:ok, _pid, 2}
      ```
    """

    assert Guide.run(markdown, "a.md") == 2

    assert [{2, "alias" <> _, nil}, {14, _, "4"}, {17, _, "{:ok, _pid, 2}"}] =
             Guide.steps(markdown)
  end

  test "a value that is not what is shown fails, with its place" do
    text = refused("one = 1\n\none + 1\n#=> 3")
    assert text =~ "a.md:4 shows another value than its code gives"
    assert text =~ ~r/shown: 3\n\s*got:   2/

    assert refused("{:ok, 1}\n#=> {:error, _}") =~ "got:   {:ok, 1}"
    assert refused("self()\n#=> #PID<0.0.0>") =~ "shown: #PID<0.0.0>"
  end

  test "an exception is shown with its type and message, and others fail" do
    assert Guide.run(guide(~s|raise "no"\n#=> ** (RuntimeError) no|), "a.md") == 1
    assert refused(~s|raise "no"\n#=> ** (RuntimeError) yes|) =~ "got:   ** (RuntimeError) no"
    assert refused(":fine\n#=> ** (RuntimeError) no") =~ "got:   no exception"
    assert_raise RuntimeError, "no", fn -> Guide.run(guide(~s|raise "no"|), "a.md") end
  end

  test "code that does not compile fails" do
    assert_raise TokenMissingError, fn -> Guide.run(guide("[1, 2"), "a.md") end
  end
end

# Guides show what is done with Nx.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.GuidesTest do
    # Guides choose the default backend of the whole VM, and look at its memory.
    use ExUnit.Case, async: false

    alias Emily.Test.Guide

    @moduletag :nx
    @moduletag :native
    # Some show what fails.
    @moduletag :capture_log

    setup do
      before = Nx.global_default_backend(Nx.BinaryBackend)
      on_exit(fn -> Nx.global_default_backend(before) end)
    end

    guides = Path.wildcard("guides/*.md")
    if guides == [], do: raise("there are no guides in #{File.cwd!()}")

    for path <- guides do
      test "#{path} shows what its code gives" do
        assert Guide.run(unquote(path)) > 0
      end
    end
  end
end
